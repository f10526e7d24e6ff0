//! Pages by keyset: a page costs the same however far down it is. Tokens are opaque to clients and bound to the query that made them.

use std::hash::Hasher;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use prost::Message;

use crate::error::{Error, Result};

/// What a client asked of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// Items to answer with, 1 to 100.
    pub size: i64,
    /// The last item of the page before.
    pub after: Option<Cursor>,
    fingerprint: u64,
}

/// Where a page ended.
#[derive(Clone, PartialEq, Message)]
pub struct Cursor {
    /// Hash of the query's parameters; set when the token is made.
    #[prost(fixed64, tag = "1")]
    pub fingerprint: u64,
    /// The last item's number.
    #[prost(int64, tag = "2")]
    pub id: i64,
    /// The last item's sort value where it is a time (microseconds since 1970) or a count.
    #[prost(int64, tag = "3")]
    pub number: i64,
    /// The last item's sort value where it is a text.
    #[prost(string, tag = "4")]
    pub text: String,
    /// The last item's sort value where it is a score.
    #[prost(double, tag = "5")]
    pub score: f64,
}

impl Cursor {
    /// After an item with a time.
    pub fn at_time(id: i64, time: DateTime<Utc>) -> Self {
        Self { id, number: time.timestamp_micros(), ..Self::default() }
    }

    /// The time that [`Cursor::at_time`] was made from.
    pub fn time(&self) -> Result<DateTime<Utc>> {
        // Years 1 to 9999: what Postgres and Timestamp both hold.
        DateTime::from_timestamp_micros(self.number)
            .filter(|time| (-62_135_596_800..=253_402_300_799).contains(&time.timestamp()))
            .ok_or_else(|| {
                Error::invalid("page_token", "is not a token of this list; leave it out to start anew.")
            })
    }
}

impl Page {
    /// Reads `page_size` (0 means `default_size`) and `page_token`; `parameters` is whatever else the query was made of.
    pub fn new(size: i32, default_size: i32, token: &str, parameters: &impl Message) -> Result<Self> {
        let fingerprint = fingerprint(parameters);
        let after = read_token("page_token", token, fingerprint)?;
        Ok(Self { size: i64::from(if size == 0 { default_size } else { size }), after, fingerprint })
    }

    /// A stream's position: reads `resume_token`; `size` is the number of items read at once.
    pub fn resume(size: i64, token: &str, parameters: &impl Message) -> Result<Self> {
        let fingerprint = fingerprint(parameters);
        Ok(Self { size, after: read_token("resume_token", token, fingerprint)?, fingerprint })
    }

    /// The number of rows to read: one more than the page, to know whether there is a next one.
    pub fn limit(&self) -> i64 {
        self.size + 1
    }

    /// Cuts `items` to the page and makes the token of the next one from the last item that is shown.
    pub fn finish<T>(&self, items: &mut Vec<T>, cursor: impl FnOnce(&T) -> Cursor) -> String {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        if items.len() <= size {
            return String::new();
        }
        items.truncate(size);
        match items.last() {
            Some(last) => self.token(cursor(last)),
            None => String::new(),
        }
    }

    /// The token of the page after `cursor`.
    pub fn token(&self, cursor: Cursor) -> String {
        URL_SAFE_NO_PAD.encode(Cursor { fingerprint: self.fingerprint, ..cursor }.encode_to_vec())
    }
}

fn read_token(field: &str, token: &str, fingerprint: u64) -> Result<Option<Cursor>> {
    if token.is_empty() {
        return Ok(None);
    }
    let cursor = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| Cursor::decode(bytes.as_slice()).ok());
    match cursor {
        None => Err(Error::invalid(field, "is not a token of this list; leave it out to start anew.")),
        Some(cursor) if cursor.text.contains('\0') => {
            Err(Error::invalid(field, "is not a token of this list; leave it out to start anew."))
        }
        Some(cursor) if cursor.fingerprint != fingerprint => {
            Err(Error::invalid(field, "was issued for other parameters; leave it out to start anew."))
        }
        cursor => Ok(cursor),
    }
}

/// FNV-1a over the request's type and its encoded parameters: one list's token opens no other.
fn fingerprint(parameters: &impl Message) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    hasher.write(std::any::type_name_of_val(parameters).as_bytes());
    hasher.write(&parameters.encode_to_vec());
    hasher.finish()
}

struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ListArticlesRequest;

    fn query(keyword: &str) -> ListArticlesRequest {
        ListArticlesRequest { keyword: keyword.into(), ..Default::default() }
    }

    #[test]
    fn a_token_continues_its_own_query_only() {
        let first = Page::new(2, 50, "", &query("a")).unwrap();
        let mut items = vec![1, 2, 3];
        let token = first.finish(&mut items, |id| Cursor { id: *id, ..Cursor::default() });
        assert_eq!(items, [1, 2]);
        assert_eq!(Page::new(2, 50, &token, &query("a")).unwrap().after.unwrap().id, 2);
        assert!(matches!(Page::new(2, 50, &token, &query("b")), Err(Error::Invalid(_))));
    }

    #[test]
    fn the_last_page_has_no_token() {
        let page = Page::new(0, 50, "", &query("a")).unwrap();
        assert_eq!(page.size, 50);
        assert_eq!(page.finish(&mut vec![1], |_| Cursor::default()), "");
    }

    #[test]
    fn malformed_tokens_are_refused() {
        for token in ["!", "AAAA", "____", "eyJhIjoxfQ", &"A".repeat(500)] {
            assert!(matches!(Page::new(0, 50, token, &query("a")), Err(Error::Invalid(_))), "{token}");
        }
    }
}
