//! How many connections each client address has.
//!
//! Deliberately absent: users. A connection is counted before anything was said on it.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use parking_lot::Mutex;

/// What stands for a client: its IPv4 address, or the /64 of its IPv6 address, which is what one client is given.
#[must_use]
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let network = u128::from(v6) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 => v4,
    }
}

/// Counts connections by client. Only those that have one are remembered.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    bound: usize,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Clients {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            bound,
            counts: Arc::default(),
        }
    }

    /// One more connection from `address`, unless it has all it may have.
    pub(super) fn join(&self, address: IpAddr) -> Option<Counted> {
        let client = client_network(address);
        let mut counts = self.counts.lock();
        let count = counts.entry(client).or_default();
        if *count >= self.bound {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(self.counted(client))
    }

    /// One more than it may have, for a moment: another one of its connections is about to end.
    pub(super) fn join_beyond(&self, address: IpAddr) -> Counted {
        let client = client_network(address);
        *self.counts.lock().entry(client).or_default() += 1;
        self.counted(client)
    }

    fn counted(&self, client: IpAddr) -> Counted {
        Counted {
            clients: self.clone(),
            client,
        }
    }
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    clients: Clients,
    client: IpAddr,
}

impl Counted {
    /// Whose it is.
    pub(super) fn client(&self) -> IpAddr {
        self.client
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.clients.counts.lock().entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_bound_and_gets_back_what_it_gave_up() {
        let clients = Clients::new(2);
        let join = |text: &str| clients.join(text.parse().unwrap());
        let first = join("10.0.0.1").unwrap();
        let second = join("::ffff:10.0.0.1").expect("the same client in other words");
        assert!(join("10.0.0.1").is_none());
        let other = join("10.0.0.2").unwrap();
        drop(first);
        let third = join("10.0.0.1").unwrap();
        drop((second, third, other));
        assert!(clients.counts.lock().is_empty(), "who is gone is forgotten");
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let clients = Clients::new(1);
        let join = |text: &str| clients.join(text.parse().unwrap());
        let held = join("2001:db8:0:1::1");
        assert!(held.is_some());
        assert!(join("2001:db8:0:1:ffff::2").is_none());
        assert!(join("2001:db8:0:2::1").is_some());
    }
}
