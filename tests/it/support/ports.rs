//! Free ports.

use std::net::{IpAddr, Ipv4Addr, TcpListener};

use parking_lot::Mutex;

use super::content::Random;

/// 127.0.0.N.
pub(crate) fn loopback(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, n))
}

/// A port that is free on the first `hosts` loopback addresses. It lies below the ports that the system gives to
/// outgoing connections, and no two calls in this process give the same.
pub(crate) fn free_port(hosts: u8) -> u16 {
    static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).unwrap();
    let mut random = Random::seeded(u64::from_le_bytes(seed));
    let mut given = GIVEN.lock();
    for _ in 0..1000 {
        let port = 10_000 + random.below(20_000) as u16;
        let free = |n| TcpListener::bind((loopback(n), port)).is_ok();
        if !given.contains(&port) && (1..=hosts).all(free) {
            given.push(port);
            return port;
        }
    }
    panic!("no port is free on 127.0.0.1 to 127.0.0.{hosts}");
}
