//! The whole mesh in one thread, in simulated time, over a network and stores that do what a seed says.
//!
//! Everything is the program's own code, TLS, HTTP/2 and gRPC included: three members, and clients that record what they
//! were told. In place of TCP there is [`network`], in place of the stores' drivers [`stores`], and time passes when nobody
//! has anything to do. Members are cut off from each other and from the stores, killed, stopped and started again, and
//! their wall clocks differ. What clients were told must be explainable all the same ([`crate::history`]), and what was
//! acknowledged must be there in the end.
//!
//! A seed decides everything, so a failure can be watched again: `tests/simulate --seed N --trace`.

mod chaos;
mod door;
mod member;
mod mirroring;
mod network;
mod space;
mod stores;
mod trace;
mod uploads;
mod upstream;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use portolan::{
    app::{MemberSpec, MeshSpec},
    auth::GateSpec,
    config::{Collecting, Limits, RateLimits},
    ownership::{Membership, SharedSettings},
    placement::{HashKey, MemberId},
    registry::{Immutable, Quotas},
    storage::{
        MemoryBlobs, MemoryMeta,
        faulty::{FaultPlan, FaultRates, FaultyBlobs, FaultyMeta},
    },
};
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    chaos::Chaos,
    door::Door,
    member::Member,
    mirroring::{Mirrored, Pulled},
    network::{Host, Net, number},
    space::Raced,
    stores::{Shared, Weakness},
    trace::{Trace, Traced},
    upstream::Upstream,
};
use crate::{
    support::{
        content::{Random, run_seed},
        mesh::{HASH_KEY, MEMBERS, certificates, tls},
    },
    workload::{self, Workload},
};

/// Where clients are.
const CLIENTS: Host = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 200));

/// Length of a part of a blob: some parts shouldn't cost many bytes, and so few are hashed at once where they come.
const PART: usize = 4 << 10;

/// A simulation.
#[derive(Clone, Copy, Debug)]
struct Simulation {
    seed: u64,
    weakness: Weakness,
    in_words: bool,
}

/// What came of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ran {
    traced: Traced,
    acknowledged: usize,
    unavailable: usize,
    blobs: usize,
    images: usize,
    raced: Raced,
    pulled: Pulled,
    asked_upstream: usize,
    faults: usize,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            weakness: Weakness::None,
            in_words: false,
        }
    }

    /// Runs it to its end. Panics when something is wrong.
    fn run(self) -> Ran {
        let mut random = Random::seeded(self.seed ^ 0x5eed);
        portolan::entropy::simulate(Some(Box::new(move |bytes| {
            bytes.copy_from_slice(&random.bytes(bytes.len()));
        })));
        portolan::clock::simulate(Some(member::wall_clock));
        member::reset_clock();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let ran = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(self.live())));
        drop(runtime);
        portolan::entropy::simulate(None);
        portolan::clock::simulate(None);
        ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    async fn live(self) -> Ran {
        let mut random = Random::seeded(self.seed);
        let trace = match self.in_words {
            true => Trace::in_words(),
            false => Trace::default(),
        };
        let net = Net::new(random.number(), trace.clone());
        let plan = FaultPlan::new(random.number(), rates(&mut random));
        let stores = Shared {
            meta: Arc::new(FaultyMeta::new(Arc::new(MemoryMeta::default()), plan.clone())),
            blobs: Arc::new(FaultyBlobs::new(Arc::new(MemoryBlobs::new()), plan.clone())),
            weakness: self.weakness,
            calls: TaskTracker::new(),
        };
        let upstream = Upstream::new(net.clone(), trace.clone(), random.number());
        let mut beside = JoinSet::new();
        beside.spawn(upstream.clone().serve());
        let clocks_differ = random.below(3) == 0;
        let mut members = Vec::new();
        for (n, spec) in specs().into_iter().enumerate() {
            let ahead_ms = if clocks_differ { [0, 20_000, -20_000][n] } else { 0 };
            let mut member = Member::new(spec, ahead_ms);
            member.start(&net, &stores, &trace).await;
            members.push(member);
        }
        let tasks = TaskTracker::new();
        let door = |member: &Member| Door::new(net.of(CLIENTS), member.door, tasks.clone(), trace.clone());
        let doors: Vec<Door> = members.iter().map(door).collect();
        let workload = Workload {
            repositories: vec!["one".to_owned(), "two/three".to_owned()],
            tags: 2,
            clients: 5,
            rounds: 30,
            blobs: 3,
            grace: Some(space::GRACE - space::INTERVAL),
            pause: Duration::from_millis(*random.pick(&[30, 300, 3_000, 8_000])),
            seed: random.number(),
            ..Workload::default()
        };
        let done = CancellationToken::new();
        let mut chaos = Chaos::new(
            members,
            net.clone(),
            stores.clone(),
            upstream.clone(),
            trace.clone(),
            random.number(),
        );
        let mirrored = Mirrored::new(&doors, upstream.clone(), random.number());
        let clients = async {
            let uploads = uploads::run(&doors, random.number());
            let images = space::run(&doors, random.number());
            let pulls = mirrored.run(random.number());
            let ran = tokio::join!(workload::run(workload, doors.clone()), uploads, images, pulls);
            done.cancel();
            ran
        };
        let ((ran, blobs, (images, raced), pulled), (), ()) =
            tokio::join!(clients, chaos.reign(&done), upstream.reign(&done));
        plan.disable();
        chaos.calm(&doors).await;
        stores.meta.settle().await;
        let counts = ran.counts;
        ran.check().await;
        uploads::check(&doors, &blobs).await;
        mirrored.run_when_the_mesh_is_well(random.number()).await;
        mirrored.check().await;
        chaos.leave_one().await;
        space::let_time_pass().await;
        chaos.calm(&doors).await;
        space::check(&doors, &images, &*stores.meta).await;
        mirrored.check_alone().await;
        let faults = chaos.end().await;
        Ran {
            traced: trace.traced(),
            acknowledged: counts.acknowledged,
            unavailable: counts.unavailable,
            blobs: blobs.len(),
            images: images.len(),
            raced,
            pulled,
            asked_upstream: upstream.asked(),
            faults,
        }
    }
}

/// How the stores fail: not at all, now and then, or by changes that aren't answered and happen later.
fn rates(random: &mut Random) -> FaultRates {
    let late = FaultRates {
        unknown_late: 0.15,
        latest: Duration::from_secs(1),
        ..FaultRates::default()
    };
    *random.pick(&[FaultRates::default(), FaultRates::each(0.01), late])
}

/// What the members are built from.
fn specs() -> Vec<MemberSpec> {
    let address = |n: usize, port: u16| SocketAddr::from(([127, 0, 0, n as u8 + 1], port));
    let id = |n: usize| -> MemberId { address(n, 5000).to_string().parse().unwrap() };
    let members: Vec<_> = (0..MEMBERS)
        .map(|n| (id(n), address(n, 9443).to_string()))
        .collect();
    let mut limits = Limits::default();
    limits.registry.part_size = PART as u64;
    space::hasten(&mut limits);
    upstream::hasten(&mut limits);
    let spec = |n: usize| MemberSpec {
        id: id(n),
        public: address(n, 5000),
        public_tls: None,
        gate: GateSpec::default(),
        rate_limits: RateLimits::default(),
        external_url: None,
        quotas: Quotas::default(),
        immutable: Immutable::default(),
        verify_reads: false,
        delivery: Default::default(),
        sparse_indexes: Vec::new(),
        sync: Some(upstream::sync()),
        replicate: None,
        collecting: Collecting::On,
        extensions: portolan::config::Extensions::default(),
        retention: space::retention(),
        mesh: Some(MeshSpec {
            listen: address(n, 9443),
            address: address(n, 9443).to_string(),
            membership: Membership::Listed(members.clone()),
            // All of one program: they have no two settings.
            shared: SharedSettings::new(),
            hash_key: HashKey::new(HASH_KEY),
            tls: tls(&certificates().members[n]),
        }),
        limits,
    };
    (0..MEMBERS).map(spec).collect()
}

/// A number from the environment.
fn asked(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Runs seeds on all processors, until so many are done or so much time has passed; gives those that failed.
fn run_seeds(first: u64, most: u64, within: Duration) -> (Vec<Ran>, Vec<u64>) {
    let (next, began) = (AtomicU64::new(first), Instant::now());
    let (ran, failed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + most || began.elapsed() >= within || !failed.lock().is_empty() {
                        return;
                    }
                    let one = std::panic::catch_unwind(|| Simulation::new(seed).run());
                    match one {
                        Ok(one) => ran.lock().push(one),
                        Err(_) => {
                            println!(
                                "seed {seed} failed: tests/simulate --seed {seed} --trace shows it again"
                            );
                            failed.lock().push(seed);
                        }
                    }
                }
            });
        }
    });
    (ran.into_inner(), failed.into_inner())
}

#[test]
fn what_clients_were_told_is_true_whatever_fails() {
    if let Some(seed) = asked("SIMULATION_SEED") {
        let in_words = std::env::var_os("SIMULATION_TRACE").is_some();
        let ran = Simulation {
            in_words,
            ..Simulation::new(seed)
        }
        .run();
        println!("{}seed {seed}: {}", ran.traced.lines, Said(&ran));
        return;
    }
    let first = asked("SIMULATION_FIRST").unwrap_or_else(|| run_seed("simulation") % 1_000_000_000);
    let (most, within) = match (asked("SIMULATION_SEEDS"), asked("SIMULATION_SECONDS")) {
        (None, None) => (10, Duration::from_secs(600)),
        (most, seconds) => (
            most.unwrap_or(u64::MAX - first),
            Duration::from_secs(seconds.unwrap_or(3600)),
        ),
    };
    let began = Instant::now();
    let (ran, failed) = run_seeds(first, most, within);
    let sum = |of: fn(&Ran) -> usize| ran.iter().map(of).sum::<usize>();
    let mut raced = Raced::new();
    for (what, times) in ran.iter().flat_map(|ran| &ran.raced) {
        *raced.entry(what).or_default() += times;
    }
    println!(
        "simulation: {} seeds from {first} on in {} s: {} requests acknowledged, {} not, {} blobs, {} images {raced:?}, {} pulls from upstream whole, {} not, {} requests there, {} faults",
        ran.len(),
        began.elapsed().as_secs(),
        sum(|ran| ran.acknowledged),
        sum(|ran| ran.unavailable),
        sum(|ran| ran.blobs),
        sum(|ran| ran.images),
        sum(|ran| ran.pulled.whole),
        sum(|ran| ran.pulled.not),
        sum(|ran| ran.asked_upstream),
        sum(|ran| ran.faults),
    );
    assert!(failed.is_empty(), "failed: {failed:?}");
    assert!(!ran.is_empty() && sum(|ran| ran.acknowledged) > 10 * ran.len());
}

/// A run for people.
struct Said<'a>(&'a Ran);

impl std::fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ran {
            traced: Traced { hash, events, .. },
            acknowledged,
            unavailable,
            blobs,
            images,
            raced,
            pulled: Pulled { whole, not },
            asked_upstream,
            faults,
        } = self.0;
        write!(
            f,
            "{events} events ({hash:016x}), {acknowledged} acknowledged, {unavailable} not, {blobs} blobs, {images} images {raced:?}, {whole} pulls from upstream whole, {not} not, {asked_upstream} requests there, {faults} faults"
        )
    }
}

#[test]
fn a_seed_decides_everything() {
    let seed = run_seed("a_seed_decides_everything");
    let simulation = Simulation {
        in_words: true,
        ..Simulation::new(seed)
    };
    let (first, second) = (simulation.run(), simulation.run());
    let lines = first.traced.lines.lines().zip(second.traced.lines.lines());
    if let Some((n, (a, b))) = lines.enumerate().find(|(_, (a, b))| a != b) {
        panic!("they differ at event {n}:\n{a}\n{b}");
    }
    assert_eq!(first, second);
    assert!(first.traced.events > 1_000, "{}", Said(&first));
}

#[test]
fn a_store_that_breaks_a_rule_is_found_out() {
    for weakness in [Weakness::IgnoresVersions, Weakness::StaleReads] {
        let found = (1..=60).find(|seed| {
            let simulation = Simulation {
                weakness,
                ..Simulation::new(*seed)
            };
            std::panic::catch_unwind(|| simulation.run()).is_err()
        });
        let seed = found.unwrap_or_else(|| panic!("{weakness:?} goes unnoticed"));
        println!("{weakness:?} is found out by seed {seed}, as it should be");
    }
}
