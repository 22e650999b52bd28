//! How connections are made: by the machine's TCP.
//!
//! With debug assertions the clients of a thread can be given a network of their own, for simulations; a build without them, as
//! every release is, has only the machine's.

use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;

use super::reach::{Reach, Resolver};

/// What makes the connections of a client.
#[cfg(not(debug_assertions))]
pub(super) type Dialer = HttpConnector<Resolver>;
#[cfg(debug_assertions)]
pub(super) use simulated::Dialer;
#[cfg(debug_assertions)]
pub use simulated::{Connecting, simulate};

/// Connects to where `reach` lets it, within that time, without TLS.
pub(super) fn dialer(reach: Reach, within: Duration) -> Dialer {
    let mut tcp = HttpConnector::new_with_resolver(Resolver::new(reach));
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(within));
    Dialer::from(tcp)
}

#[cfg(debug_assertions)]
mod simulated {
    use std::{
        cell::RefCell,
        io,
        sync::Arc,
        task::{Context, Poll},
    };

    use futures_util::{FutureExt as _, future::BoxFuture};
    use http::Uri;
    use hyper_util::{
        client::legacy::connect::{Connected, Connection, HttpConnector},
        rt::TokioIo,
    };
    use tokio::io::{AsyncRead, AsyncWrite};
    use tower::Service;

    use super::Resolver;

    type BoxError = Box<dyn std::error::Error + Send + Sync>;

    /// The bytes of a connection.
    pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

    impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

    impl Connection for Box<dyn Wire> {
        fn connected(&self) -> Connected {
            Connected::new()
        }
    }

    /// A connection, once it is there.
    pub type Connecting = BoxFuture<'static, io::Result<Box<dyn Wire>>>;

    type Network = Arc<dyn Fn(Uri) -> Connecting + Send + Sync>;

    thread_local! {
        static NETWORK: RefCell<Option<Network>> = const { RefCell::new(None) };
    }

    /// Clients that this thread makes connect by `network` from now on, or by the machine's TCP again.
    pub fn simulate(network: Option<Network>) {
        NETWORK.set(network);
    }

    /// The machine's TCP, or the network that was the thread's when the client was made.
    #[derive(Clone)]
    pub struct Dialer {
        machine: HttpConnector<Resolver>,
        network: Option<Network>,
    }

    impl From<HttpConnector<Resolver>> for Dialer {
        fn from(machine: HttpConnector<Resolver>) -> Self {
            Self {
                machine,
                network: NETWORK.with_borrow(Clone::clone),
            }
        }
    }

    impl Service<Uri> for Dialer {
        type Response = TokioIo<Box<dyn Wire>>;
        type Error = BoxError;
        type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            self.machine.poll_ready(cx).map_err(Into::into)
        }

        fn call(&mut self, to: Uri) -> Self::Future {
            if let Some(network) = &self.network {
                let connecting = network(to);
                return async move { Ok(TokioIo::new(connecting.await?)) }.boxed();
            }
            let connecting = self.machine.call(to);
            async move {
                let wire: Box<dyn Wire> = Box::new(connecting.await?.into_inner());
                Ok(TokioIo::new(wire))
            }
            .boxed()
        }
    }
}
