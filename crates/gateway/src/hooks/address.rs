//! Which addresses notices may go to: those that anybody could reach without us.
//!
//! A tenant names the address, but the gateway connects: from within the operator's network, where things listen that
//! trust whoever is inside. So every address is judged after the name is resolved, at every attempt.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use api::hook::HOOK_URL_BYTES_MAX;
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// Ports below this are other services' (mail, remote logins), which a stranger must not make us talk to.
const PORT_MIN: u16 = 1_024;

/// What notices may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Hosts of the public internet.
    Public,
    /// Loopback and private networks too: for trying, and where every tenant is trusted.
    Private,
}

/// Why an address is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadAddress {
    #[error("the address has more than {HOOK_URL_BYTES_MAX} bytes")]
    Long,
    #[error("the address cannot be read: {0}")]
    Unreadable(String),
    #[error("the address must begin with http:// or https://, not {0}://")]
    Scheme(String),
    #[error("the address must not contain a name or password")]
    Credentials,
    #[error("port {0} is another service's; use 80, 443 or one from {PORT_MIN}")]
    Port(u16),
    #[error(
        "{0} is not an address of the public internet, and this node sends notices nowhere else"
    )]
    NotPublic(String),
}

/// Reads an address as far as that is possible without resolving it.
pub(crate) fn parse(text: &str, reach: Reach) -> Result<Url, BadAddress> {
    if text.len() > HOOK_URL_BYTES_MAX {
        return Err(BadAddress::Long);
    }
    let url = Url::parse(text).map_err(|error| BadAddress::Unreadable(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(BadAddress::Scheme(url.scheme().to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BadAddress::Credentials);
    }
    let port = url.port_or_known_default().unwrap_or_default();
    if !(port == 80 || port == 443 || port >= PORT_MIN) {
        return Err(BadAddress::Port(port));
    }
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    // Literal addresses never come to the resolver.
    match bare.parse::<IpAddr>() {
        Ok(ip) if reach == Reach::Public && !is_public(ip) => {
            Err(BadAddress::NotPublic(host.to_owned()))
        }
        _ => Ok(url),
    }
}

/// Resolves names as the system does, and forgets what may not be reached.
pub(super) struct Resolver(pub(super) Reach);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let fit: Vec<SocketAddr> = found
                .filter(|address| reach == Reach::Private || is_public(address.ip()))
                .collect();
            if fit.is_empty() {
                return Err(BadAddress::NotPublic(name.as_str().to_owned()).into());
            }
            let addresses: Addrs = Box::new(fit.into_iter());
            Ok(addresses)
        })
    }
}

/// Tells whether an address is one of the public internet, by the registries of special addresses (RFC 6890).
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_multicast()
        || a == 0
        // Between a provider and its subscribers.
        || (a == 100 && (64..128).contains(&b))
        // Protocols, the retired relays of 6to4, and benchmarks.
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        // Reserved, and broadcast.
        || a >= 240;
    !special
}

/// Only global unicast, without the parts that lead to an IPv4 address or nowhere.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    match ip.segments() {
        // Teredo, benchmarks and other protocols; documentation; 6to4.
        [0x2001, b, ..] if b < 0x200 || b == 0xdb8 => false,
        [0x2002, ..] => false,
        [0x3fff, b, ..] if b < 0x1000 => false,
        [a, ..] => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for text in [
            "1.1.1.1",
            "93.184.216.34",
            "100.63.0.1",
            "100.128.0.1",
            "2606:4700::1111",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.0.8",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn addresses_that_lead_inside_are_refused() {
        let refused = |text: &str| parse(text, Reach::Public).unwrap_err();
        for text in [
            "http://127.0.0.1:8080/x",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]:9000/",
            "http://[::ffff:10.0.0.1]/",
            "http://169.254.169.254/latest/meta-data",
        ] {
            assert!(matches!(refused(text), BadAddress::NotPublic(_)), "{text}");
            assert!(parse(text, Reach::Private).is_ok(), "{text}");
        }
        for reach in [Reach::Public, Reach::Private] {
            let refused = |text: &str| parse(text, reach).unwrap_err();
            assert_eq!(
                refused("ftp://example.org"),
                BadAddress::Scheme("ftp".to_owned())
            );
            assert_eq!(refused("https://a:b@example.org"), BadAddress::Credentials);
            assert_eq!(refused("http://example.org:25"), BadAddress::Port(25));
            assert!(matches!(refused("example"), BadAddress::Unreadable(_)));
            assert_eq!(
                refused(&format!("http://x/{}", "a".repeat(600))),
                BadAddress::Long
            );
            assert!(parse("https://example.org/hook?x=1", reach).is_ok());
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn names_that_lead_inside_resolve_to_nothing() {
        let name = || "localhost".parse::<Name>().unwrap();
        assert!(Resolver(Reach::Public).resolve(name()).await.is_err());
        assert!(Resolver(Reach::Private).resolve(name()).await.is_ok());
    }
}
