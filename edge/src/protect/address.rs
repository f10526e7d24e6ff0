//! The client's address behind proxies.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

/// The address that a request comes from.
///
/// `X-Forwarded-For` is read from its end, each entry being what the proxy before it saw, and only as far as the proxies
/// are trusted: what a client writes there itself is never believed.
pub(crate) fn client_address(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.to_canonical());
    let believed = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    // From the last value of the last header field backwards.
    for value in headers.get_all("x-forwarded-for").iter().collect::<Vec<_>>().into_iter().rev() {
        for entry in value.to_str().unwrap_or_default().rsplit(',') {
            if !believed(client) {
                return client;
            }
            match parse(entry.trim()) {
                Some(address) => client = address.to_canonical(),
                None => return client,
            }
        }
    }
    client
}

/// An address, with or without a port.
fn parse(entry: &str) -> Option<IpAddr> {
    entry
        .parse()
        .ok()
        .or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: &str, forwarded: &[&'static str]) -> String {
        let headers = forwarded.iter().map(|value| {
            (http::HeaderName::from_static("x-forwarded-for"), http::HeaderValue::from_static(value))
        });
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        client_address(Some(peer.parse().unwrap()), &HeaderMap::from_iter(headers), &trusted).to_string()
    }

    #[test]
    fn a_forwarded_address_is_believed_behind_trusted_proxies_only() {
        assert_eq!(address("1.2.3.4", &["5.6.7.8"]), "1.2.3.4");
        assert_eq!(address("10.0.0.1", &["5.6.7.8"]), "5.6.7.8");
        assert_eq!(address("10.0.0.1", &["9.9.9.9, 5.6.7.8, 10.0.0.2"]), "5.6.7.8");
        assert_eq!(address("10.0.0.1", &["nonsense, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(address("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(address("::1", &["[2001:db8::1]:443"]), "2001:db8::1");
        assert_eq!(address("::ffff:10.0.0.1", &["2001:db8::2"]), "2001:db8::2");
    }

    #[test]
    fn several_header_fields_read_as_one_list() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", http::HeaderValue::from_static("6.6.6.6, 5.5.5.5"));
        headers.append("x-forwarded-for", http::HeaderValue::from_static("10.0.0.3"));
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let peer = Some("10.0.0.1".parse().unwrap());
        assert_eq!(client_address(peer, &headers, &trusted).to_string(), "5.5.5.5");
    }
}
