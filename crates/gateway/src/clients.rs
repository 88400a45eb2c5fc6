//! Who asks, and how much of the gateway one of them may have.
//!
//! A client is an address: a whole IPv4 address, or the 64 bits of an IPv6 address that one subscriber has. Each has a
//! share of everything that can run out, and a bucket of requests that fills at a steady rate. Processes on this machine
//! (agents, the command line) are not held to shares and rates unless asked for, and a part of everything is kept for
//! them, so that no crowd from outside can starve what runs here.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use market::PublicKey;
use tokio::time::Instant;

/// Most clients and most keys that are remembered at once; one that asks for nothing is forgotten first.
const KNOWN_MAX: usize = 16_384;
/// The part of everything that is kept for processes on this machine: an eighth.
const KEPT_PART: usize = 8;

/// How much of the gateway there is, and how much of it one client may have.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections in all: each costs a few kilobytes, and event streams hold theirs for hours.
    pub connections_max: usize,
    /// Connections of one client.
    pub connections_per_client: usize,
    /// Requests under way in all; those that wait for a block count too.
    pub requests_max: usize,
    /// Requests under way of one client.
    pub requests_per_client: usize,
    /// Requests of one client that wait for a block.
    pub waiting_per_client: usize,
    /// Event streams in all; each holds a connection and, while it catches up, a page of events.
    pub streams_max: usize,
    /// Event streams of one client.
    pub streams_per_client: usize,
    /// Requests of one client.
    pub requests: Rate,
    /// Transactions of one key.
    pub transactions: Rate,
    /// Whether processes on this machine are held to shares and rates too.
    pub local: LocalClients,
}

/// So many a second on average, so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// On average; at least 1.
    pub per_second: u32,
    /// At once after a pause; at least 1.
    pub burst: u32,
}

/// How processes on this machine are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalClients {
    /// Only what there is in all bounds them: they run the network, or their owner can end them.
    Free,
    /// As everybody else: right where a proxy on this machine passes on what strangers ask.
    Limited,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 2_048,
            connections_per_client: 256,
            requests_max: 1_024,
            requests_per_client: 128,
            waiting_per_client: 64,
            streams_max: 512,
            streams_per_client: 32,
            // A page that polls ten things a second from ten windows, and an office behind one address.
            requests: Rate {
                per_second: 200,
                burst: 2_000,
            },
            // A key's queue in the pool is shorter still; this bounds what it costs to refuse.
            transactions: Rate {
                per_second: 200,
                burst: 2_000,
            },
            local: LocalClients::Free,
        }
    }
}

/// What can run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Connection,
    Request,
    Waiting,
    Stream,
}

/// How many of each kind are in use.
type Used = [usize; 4];

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// This client has its share already.
    Yours,
    /// All of it is in use.
    All,
}

/// One who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    address: IpAddr,
    local: bool,
}

/// How a bucket stands after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// What the bucket holds when it is full.
    pub(crate) limit: u32,
    /// What it holds now.
    pub(crate) remaining: u32,
    /// When it is full again.
    pub(crate) full_in: Duration,
    /// When the next request may come, if this one came too soon.
    pub(crate) retry_in: Option<Duration>,
}

/// All who ask.
#[derive(Debug)]
pub(crate) struct Clients {
    limits: Limits,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    used: Used,
    shares: HashMap<IpAddr, Share>,
    keys: HashMap<PublicKey, Bucket>,
}

#[derive(Debug, Default)]
struct Share {
    used: Used,
    bucket: Bucket,
}

/// A bucket, as the instant at which it will be full (the generic cell rate algorithm).
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at: Option<Instant>,
}

/// A place in use; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place {
    clients: Arc<Clients>,
    /// The share that it was taken from.
    share: IpAddr,
    kind: Kind,
}

impl Client {
    /// Returns the client at an address.
    pub(crate) fn at(address: IpAddr) -> Self {
        /// The part of an IPv6 address that one subscriber has.
        const PREFIX_BITS: u32 = 64;
        let plain = address.to_canonical();
        let address = match plain {
            IpAddr::V4(_) => plain,
            IpAddr::V6(long) => {
                Ipv6Addr::from_bits(long.to_bits() >> PREFIX_BITS << PREFIX_BITS).into()
            }
        };
        Self {
            address,
            local: plain.is_loopback(),
        }
    }

    /// Returns whether it is on this machine.
    #[cfg(test)]
    pub(crate) const fn is_local(self) -> bool {
        self.local
    }
}

impl Clients {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            table: Mutex::default(),
        })
    }

    /// Takes a place, if there is one for this client.
    pub(crate) fn enter(self: &Arc<Self>, client: Client, kind: Kind) -> Result<Place, NoRoom> {
        let (max, per_client) = self.bounds(kind);
        let kept = if client.local { 0 } else { max / KEPT_PART };
        let mut table = self.table();
        let used = table.used.get(kind as usize).copied();
        if used.unwrap_or_default() >= max - kept {
            return Err(NoRoom::All);
        }
        let share = table.share_of(client.address);
        let of_client = table.shares.entry(share).or_default();
        let of_client = of_client
            .used
            .get_mut(kind as usize)
            .expect("a counter for each kind");
        if !self.is_free(client) && *of_client >= per_client {
            return Err(NoRoom::Yours);
        }
        *of_client += 1;
        if let Some(used) = table.used.get_mut(kind as usize) {
            *used += 1;
        }
        Ok(Place {
            clients: Arc::clone(self),
            share,
            kind,
        })
    }

    /// Counts a request of this client; `None` for one that is not counted.
    pub(crate) fn count(&self, client: Client) -> Option<Standing> {
        if self.is_free(client) {
            return None;
        }
        let mut table = self.table();
        let share = table.share_of(client.address);
        let bucket = &mut table.shares.entry(share).or_default().bucket;
        Some(bucket.take(self.limits.requests, Instant::now()))
    }

    /// Returns how long this key must wait before its next transaction, if it must.
    pub(crate) fn key_must_wait(&self, client: Client, key: &PublicKey) -> Option<Duration> {
        if self.is_free(client) {
            return None;
        }
        let bucket = self.table().keys.get(key).copied();
        // Only looks: what was not signed by the key must not count against it.
        bucket?
            .take(self.limits.transactions, Instant::now())
            .retry_in
    }

    /// Counts a transaction that this key has signed.
    pub(crate) fn count_key(&self, client: Client, key: PublicKey) {
        if self.is_free(client) {
            return;
        }
        let now = Instant::now();
        let mut table = self.table();
        if table.keys.len() >= KNOWN_MAX {
            table.keys.retain(|_, bucket| !bucket.is_full(now));
        }
        if table.keys.len() < KNOWN_MAX {
            let bucket = table.keys.entry(key).or_default();
            let _standing = bucket.take(self.limits.transactions, now);
        }
    }

    /// Returns how many places of a kind are in use.
    pub(crate) fn used(&self, kind: Kind) -> usize {
        self.table()
            .used
            .get(kind as usize)
            .copied()
            .unwrap_or_default()
    }

    fn is_free(&self, client: Client) -> bool {
        client.local && self.limits.local == LocalClients::Free
    }

    /// Returns how many there are in all, and for one client.
    const fn bounds(&self, kind: Kind) -> (usize, usize) {
        let limits = &self.limits;
        match kind {
            Kind::Connection => (limits.connections_max, limits.connections_per_client),
            Kind::Request => (limits.requests_max, limits.requests_per_client),
            Kind::Waiting => (limits.requests_max, limits.waiting_per_client),
            Kind::Stream => (limits.streams_max, limits.streams_per_client),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Returns under which address this one is counted.
    fn share_of(&mut self, address: IpAddr) -> IpAddr {
        /// A crowd larger than the table shares one place in it.
        const CROWD: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        if self.shares.len() < KNOWN_MAX || self.shares.contains_key(&address) {
            return address;
        }
        let now = Instant::now();
        self.shares.retain(|_, share| !share.is_idle(now));
        if self.shares.len() < KNOWN_MAX {
            address
        } else {
            CROWD
        }
    }

    fn leave(&mut self, share: IpAddr, kind: Kind) {
        let of_client = self.shares.get_mut(&share).map(|share| &mut share.used);
        for used in [Some(&mut self.used), of_client].into_iter().flatten() {
            if let Some(used) = used.get_mut(kind as usize) {
                *used = used.saturating_sub(1);
            }
        }
    }
}

impl Share {
    fn is_idle(&self, now: Instant) -> bool {
        self.used == Used::default() && self.bucket.is_full(now)
    }
}

impl Bucket {
    fn is_full(self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }

    /// Takes one out, unless it is empty.
    fn take(&mut self, rate: Rate, now: Instant) -> Standing {
        let one = Duration::from_secs(1) / rate.per_second.max(1);
        let whole = one * rate.burst.max(1);
        let before = self.full_at.map_or(now, |at| at.max(now));
        let after = before + one;
        let retry_in = (after - now).checked_sub(whole).filter(|d| !d.is_zero());
        let full_at = match retry_in {
            Some(_) => before,
            None => after,
        };
        self.full_at = Some(full_at);
        let missing = (full_at - now).as_nanos().div_ceil(one.as_nanos().max(1));
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        Standing {
            limit: rate.burst,
            remaining: rate.burst.saturating_sub(missing),
            full_in: full_at - now,
            retry_in,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clients.table().leave(self.share, self.kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u8) -> Client {
        Client::at([203, 0, 113, n].into())
    }

    fn here() -> Client {
        Client::at([127, 0, 0, 1].into())
    }

    fn limits() -> Limits {
        Limits {
            streams_max: 16,
            streams_per_client: 3,
            requests: Rate {
                per_second: 10,
                burst: 5,
            },
            ..Limits::default()
        }
    }

    #[test]
    fn one_client_gets_its_share_and_a_crowd_leaves_room_for_this_machine() {
        let clients = Clients::new(limits());
        let enter = |who| clients.enter(who, Kind::Stream);
        let mut places: Vec<Place> = (0..3).map(|_| enter(client(1)).unwrap()).collect();
        assert_eq!(enter(client(1)).unwrap_err(), NoRoom::Yours);
        for n in 2..=13 {
            places.extend(enter(client(n)).ok());
        }
        assert_eq!(places.len(), 14);
        assert_eq!(enter(client(20)).unwrap_err(), NoRoom::All);
        let ours = [enter(here()).unwrap(), enter(here()).unwrap()];
        assert_eq!(enter(here()).unwrap_err(), NoRoom::All);
        drop((places, ours));
        assert_eq!(clients.used(Kind::Stream), 0);
        assert!(enter(client(1)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_empties_at_once_and_fills_at_its_rate() {
        let clients = Clients::new(limits());
        for left in (0..5).rev() {
            let standing = clients.count(client(1)).unwrap();
            assert_eq!((standing.remaining, standing.retry_in), (left, None));
        }
        let refused = clients.count(client(1)).unwrap();
        assert_eq!(refused.retry_in, Some(Duration::from_millis(100)));
        assert_eq!(clients.count(client(2)).unwrap().retry_in, None);
        assert_eq!(clients.count(here()), None);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(clients.count(client(1)).unwrap().retry_in, None);
        assert!(clients.count(client(1)).unwrap().retry_in.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_pays_only_for_what_it_signed() {
        let limits = Limits {
            transactions: Rate {
                per_second: 1,
                burst: 2,
            },
            ..limits()
        };
        let clients = Clients::new(limits);
        let key = PublicKey::from_bytes([1; 32]);
        for _ in 0..9 {
            assert_eq!(clients.key_must_wait(client(1), &key), None);
        }
        clients.count_key(client(1), key);
        clients.count_key(client(1), key);
        assert!(clients.key_must_wait(client(2), &key).is_some());
        assert_eq!(clients.key_must_wait(here(), &key), None);
    }

    #[test]
    fn addresses_of_one_subscriber_are_one_client() {
        let [a, b, c] = ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1"]
            .map(|text| Client::at(text.parse().unwrap()));
        assert_eq!(a, b);
        assert_ne!(a, c);
        assert!(Client::at("::ffff:127.0.0.1".parse().unwrap()).is_local());
        assert!(Client::at("::1".parse().unwrap()).is_local());
    }

    #[test]
    fn a_crowd_larger_than_the_table_is_still_counted() {
        let clients = Clients::new(Limits {
            requests_max: usize::MAX,
            ..Limits::default()
        });
        let at = |n: u32| Client::at(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into());
        let known = u32::try_from(KNOWN_MAX).unwrap();
        let places: Vec<Place> = (0..known + 200)
            .filter_map(|n| clients.enter(at(n), Kind::Request).ok())
            .collect();
        assert_eq!(
            places.len(),
            KNOWN_MAX + Limits::default().requests_per_client
        );
        drop(places);
        assert_eq!(clients.used(Kind::Request), 0);
    }
}
