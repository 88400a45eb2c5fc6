//! To which addresses a pull may connect.
//!
//! A tenant names the registry, and the registry names where blobs lie and where tokens are had. Whoever may name an
//! address may knock at doors of the provider's own network, so each of them is looked at: the name, and what it
//! resolves to at the moment of the connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// To which addresses a pull may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Any that there is.
    #[default]
    Anywhere,
    /// Public ones, and the hosts listed, as `host` or `host:port`, wherever they are.
    PublicAnd(Vec<String>),
}

/// A host is at an address that pulls may not connect to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host} is at an address that images are not fetched from here")]
pub(in crate::image) struct OutOfReach {
    pub(in crate::image) host: String,
}

impl Reach {
    /// Looks at where a request is about to go. A public name may still resolve to a private address, which the
    /// [`Resolver`] refuses.
    pub(in crate::image) fn check(&self, url: &Url) -> Result<(), OutOfReach> {
        let Self::PublicAnd(listed) = self else {
            return Ok(());
        };
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default();
        let of_host: Vec<_> = listed
            .iter()
            .map(|rule| split(rule))
            .filter(|(name, _)| same(name, host))
            .collect();
        let open = if of_host.is_empty() {
            match bare(host).parse::<IpAddr>() {
                Ok(ip) => is_public(ip),
                Err(_) => !is_local_name(host),
            }
        } else {
            of_host.iter().any(|(_, p)| p.is_none() || *p == port)
        };
        let host = host.to_owned();
        if open {
            Ok(())
        } else {
            Err(OutOfReach { host })
        }
    }

    fn lists(&self, host: &str) -> bool {
        match self {
            Self::Anywhere => true,
            Self::PublicAnd(listed) => listed.iter().any(|rule| same(split(rule).0, host)),
        }
    }
}

/// Resolves names as the system does, and gives only addresses that are within reach.
#[derive(Clone, Debug)]
pub(in crate::image) struct Resolver(pub(in crate::image) Reach);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            if !reach.lists(&host) && !found.iter().all(|address| is_public(address.ip())) {
                return Err(OutOfReach { host }.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl OutOfReach {
    /// Finds it among the causes of an error.
    pub(in crate::image) fn among<'a>(
        error: &'a (dyn std::error::Error + 'static),
    ) -> Option<&'a Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            cause = error.source();
        }
        None
    }
}

/// Tells whether an address is one of the public network, and no other way to write one that is not.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmarks = a == 198 && (b == 18 || b == 19);
    let protocols = (a, b, c) == (192, 0, 0);
    !(ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_unspecified()
        || ip.is_multicast()
        || shared
        || benchmarks
        || protocols
        || a == 0
        || a >= 240)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let all = ip.segments();
    if let Some(inner) = ip.to_ipv4() {
        return is_public_v4(inner);
    }
    match all {
        // 6to4 holds an address of the older kind; Teredo leads to one behind a relay.
        [0x2002, high, low, ..] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        [0x2001, 0, ..] => false,
        // Of all that is handed out, only 2000::/3 is public.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Tells whether a name is one of the machine or its network by its form.
pub fn is_local_name(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let last = name.rsplit('.').next().unwrap_or_default();
    let local = matches!(last, "localhost" | "local" | "internal" | "lan" | "home");
    local || !name.contains('.')
}

/// Splits a rule, `host` or `host:port`.
fn split(rule: &str) -> (&str, Option<u16>) {
    if let Some((name, port)) = rule.rsplit_once(':')
        && (!name.contains(':') || name.ends_with(']'))
        && let Ok(port) = port.parse()
    {
        return (name, Some(port));
    }
    (rule, None)
}

fn same(rule: &str, host: &str) -> bool {
    bare(rule).eq_ignore_ascii_case(bare(host))
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_and_listed_addresses_are_within_reach() {
        let reach = Reach::PublicAnd(vec!["127.0.0.1:5000".into(), "nas.lan".into()]);
        let check = |url: &str| reach.check(&url.parse().unwrap()).is_ok();
        for open in [
            "https://ghcr.io/v2/",
            "https://8.8.8.8/",
            "https://[2606:4700::1]/",
            "http://127.0.0.1:5000/v2/",
            "https://nas.lan/",
            "https://NAS.lan:8443/",
        ] {
            assert!(check(open), "{open}");
        }
        for shut in [
            "http://127.0.0.1:5001/",
            "http://127.0.0.1/",
            "http://2130706433:5001/",
            "https://169.254.169.254/latest/meta-data",
            "https://10.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[2002:7f00:1::]/",
            "https://[fd00::1]/",
            "https://localhost/",
            "https://metadata.google.internal/",
            "https://router/",
            "https://100.64.0.1/",
            "https://198.18.0.1/",
            "https://255.255.255.255/",
        ] {
            assert!(!check(shut), "{shut}");
        }
        assert!(
            Reach::Anywhere
                .check(&"http://127.0.0.1/".parse().unwrap())
                .is_ok()
        );
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_this_machine_is_refused() {
        let resolve = async |reach: Reach| {
            Resolver(reach)
                .resolve("localhost".parse().unwrap())
                .await
                .map(Iterator::count)
        };
        let refused = resolve(Reach::PublicAnd(Vec::new())).await;
        let refused = refused.err().unwrap();
        assert!(OutOfReach::among(&*refused).is_some(), "{refused}");
        assert!(
            resolve(Reach::PublicAnd(vec!["localhost".into()]))
                .await
                .unwrap()
                > 0
        );
        assert!(resolve(Reach::Anywhere).await.unwrap() > 0);
    }
}
