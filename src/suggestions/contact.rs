//! Where a proposer can be reached.

use std::fmt;

/// An e-mail address: kept, and never shown by what prints it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Email(String);

impl Email {
    /// Wraps an address, or nothing.
    pub fn new(address: impl Into<String>) -> Self {
        Self(address.into())
    }

    /// The address itself; only for where it is kept.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "" } else { "***" })
    }
}

#[cfg(test)]
mod tests {
    use super::Email;

    #[test]
    fn an_address_is_never_printed() {
        let email = Email::new("ana@example.eu");
        assert_eq!(format!("{email} {email:?} {:?}", Some(&email)), "*** *** Some(***)");
        assert_eq!(email.expose(), "ana@example.eu");
    }
}
