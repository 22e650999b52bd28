use super::*;

#[test]
fn the_defaults_fit_together() {
    let l = Limits::default();
    let streams = u64::from(l.mesh.streams) * u64::from(l.mesh.stream_window);
    assert!(
        streams <= u64::from(l.mesh.connection_window),
        "a stalled client stalls the link"
    );
    assert!(l.mesh.piece_window <= l.mesh.stream_window);
    assert!(
        l.server.head_bytes < l.mesh.head_bytes,
        "a head that the front takes fits on the mesh"
    );
    assert!(
        l.server.idle_timeout > Duration::from_secs(600) && l.server.idle_timeout > l.server.head_timeout
    );
    assert!(l.mesh.hold > l.mesh.accept * 2 && l.front.deadline > l.mesh.hold);
    assert!(
        l.registry.body_memory >= 64 * l.registry.part_size,
        "a few slow uploads aren't in everyone's way"
    );
    assert!(
        l.registry.body_patience < l.front.deadline && l.front.patience < l.front.deadline,
        "there is time to say so"
    );
    assert!(
        l.net.slow_body_window * 2 < l.front.patience.min(l.registry.body_patience),
        "who is slow gives way before who waits gives up"
    );
    assert!(
        l.registry.body_memory / 4 >= (l.front.requests + l.mesh.replays) as u64 * 32 * KIB as u64,
        "most requests at once find room for a small body"
    );
    assert!(l.server.connections_per_client <= l.server.connections / 2);
    assert!(l.registry.part_size >= 5 * MIB as u64, "S3 refuses smaller parts");
    assert!(
        l.registry.inline_manifest < 300 * KIB,
        "an item of DynamoDB has 400 KB"
    );
    assert!(l.dynamo.connect < l.dynamo.answer);
    assert!(
        (l.postgres.retry_time + l.postgres.answer) * 2 < l.front.deadline,
        "a write's outcome can be asked for within its request"
    );
    assert!(
        l.postgres.answer > Duration::from_secs(4),
        "the server's lock_timeout, by which it has answered"
    );
    assert!(
        (l.redis.retry_time + l.redis.answer) * 2 < l.front.deadline,
        "a write's outcome can be asked for within its request"
    );
    assert!(l.redis.replicas < l.redis.answer);
    assert!(
        (l.dynamo.retry_time + l.dynamo.answer) * 2 < l.front.deadline,
        "a write's outcome can be asked for within its request"
    );
    assert!(
        l.leases.expiry > 2 * (l.leases.heartbeat + l.leases.patience),
        "a slow store isn't a dead member"
    );
    assert!(
        l.ending.notice > 2 * l.leases.heartbeat && l.ending.drain > 2 * l.ending.notice,
        "the others see that a member leaves"
    );
    assert!(l.mesh.ping_every + l.mesh.ping_timeout < l.leases.expiry);
    assert!(l.registry.feed_kept > l.events.kept && l.registry.feed_kept_longest > l.registry.feed_kept);
    assert!(l.registry.session_ttl > l.registry.trash_delay && l.registry.tombstone > l.registry.session_ttl);
    assert!(
        l.front.transfer_deadline < l.registry.trash_delay,
        "trash outlives the longest request"
    );
}
