//! Resource names (AIP-122): `keywords/energy-prices`, `sources/bbc-news`, `articles/8123`.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::error::{Error, Result};

/// Most characters of a slug.
const MAX_SLUG: usize = 63;

/// The slug of `{collection}/{slug}`; 404 with the name when it cannot be one.
pub fn slug<'a>(collection: &str, name: &'a str) -> Result<&'a str> {
    name.strip_prefix(collection)
        .and_then(|rest| rest.strip_prefix('/'))
        .filter(|slug| is_slug(slug))
        .ok_or_else(|| Error::NotFound(name.to_owned()))
}

/// The slug of `{collection}/{slug}` or of the slug alone, as filters take it.
pub fn slug_or_name<'a>(collection: &str, name: &'a str) -> Result<&'a str> {
    if name.contains('/') {
        slug(collection, name)
    } else if is_slug(name) {
        Ok(name)
    } else {
        Err(Error::NotFound(format!("{collection}/{name}")))
    }
}

/// The number of `{collection}/{number}`; 404 with the name when it cannot be one.
pub fn number(collection: &str, name: &str) -> Result<i64> {
    name.strip_prefix(collection)
        .and_then(|rest| rest.strip_prefix('/'))
        .filter(|digits| !digits.starts_with(['+', '-', '0']))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| Error::NotFound(name.to_owned()))
}

/// A slug for a name that people gave: lower-case ASCII letters without accents and digits, joined by single hyphens.
pub fn slugify(name: &str) -> String {
    let mut slug = String::with_capacity(name.len().min(MAX_SLUG));
    for character in name.nfd().filter(|character| !is_combining_mark(*character)) {
        if slug.len() == MAX_SLUG {
            break;
        }
        if character.is_ascii_alphanumeric() {
            slug.push(character.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(slug.trim_end_matches('-').len());
    slug
}

fn is_slug(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_SLUG
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_odd_ones_are_not_found() {
        assert_eq!(slug("keywords", "keywords/energy-prices").unwrap(), "energy-prices");
        assert_eq!(slug_or_name("keywords", "energy-prices").unwrap(), "energy-prices");
        assert_eq!(number("articles", "articles/8123").unwrap(), 8123);
        for name in ["keywords/", "keywords", "sources/a", "keywords/a/b", "keywords/A", "keywords/'; --"] {
            assert!(matches!(slug("keywords", name), Err(Error::NotFound(_))), "{name}");
        }
        for name in ["articles/", "articles/x", "articles/-1", "articles/01", "articles/99999999999999999999"]
        {
            assert!(matches!(number("articles", name), Err(Error::NotFound(_))), "{name}");
        }
    }

    #[test]
    fn slugs_are_made_from_names() {
        assert_eq!(slugify("Energy prices (EU)"), "energy-prices-eu");
        assert_eq!(slugify("El País Ñandú"), "el-pais-nandu");
        assert_eq!(slugify("--"), "");
        assert_eq!(slugify(&"a".repeat(100)).len(), MAX_SLUG);
    }
}
