//! The distribution API, asked through every member of a mesh.
//!
//! A test is a function of a [`Run`]: one way into a mesh, with repositories and content of its own. The harness runs it
//! through the owner and through both others, over HTTP/1.1 and HTTP/2, records every exchange and compares: a client
//! can't tell members apart. The same tests run over failing stores ([`crate::faults`]), and against members and a balancer
//! that run elsewhere ([`external`]).

mod compare;
mod compare_and_set;
mod conditions;
mod deletes;
mod discovery;
mod errors;
mod external;
mod harness;
mod history;
mod manifests;
mod mounts;
mod pulls;
mod pushes;
mod referrers;
mod run;
mod transport;
mod undo;
mod uploads;

pub(crate) use self::{
    discovery::next,
    harness::{Test, over, through_every_member},
    run::{Mode, Names, Run},
};

/// All tests that need nothing but the API.
pub(crate) fn all() -> impl Iterator<Item = &'static Test> {
    let modules = [
        compare_and_set::ALL,
        conditions::ALL,
        deletes::ALL,
        discovery::ALL,
        errors::ALL,
        history::ALL,
        manifests::ALL,
        mounts::ALL,
        pulls::ALL,
        pushes::ALL,
        referrers::ALL,
        transport::ALL,
        undo::ALL,
        uploads::ALL,
    ];
    modules.into_iter().flatten()
}

/// What a test ends with: an assertion fails it, so this is only for runs over failing stores, where a request that
/// isn't answered ends an attempt.
pub(crate) type Outcome = Result<(), crate::support::client::Broken>;

/// Makes a list of tests, and a `#[test]` of each.
macro_rules! api_tests {
    ($($name:ident),* $(,)?) => {
        pub(super) const ALL: &[$crate::api::Test] = &[
            $($crate::api::Test { name: stringify!($name), run: |run| Box::pin($name(run)) },)*
        ];

        mod through_every_member {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let test = super::ALL.iter().find(|test| test.name == stringify!($name)).unwrap();
                    $crate::api::through_every_member(test).await;
                }
            )*
        }
    };
}
pub(crate) use api_tests;
