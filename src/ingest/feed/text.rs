//! HTML to plain text.

use std::convert::Infallible;

use html5gum::Span;
use html5gum::Tokenizer;
use html5gum::emitters::callback::{CallbackEmitter, CallbackEvent};

use crate::ingest::normalise;

/// Elements whose content is not text for a reader.
const SKIPPED: &[&[u8]] = &[b"iframe", b"noscript", b"script", b"style", b"template"];

/// Elements that begin and end a line.
const BLOCKS: &[&[u8]] = &[
    b"address",
    b"article",
    b"aside",
    b"blockquote",
    b"br",
    b"dd",
    b"div",
    b"dl",
    b"dt",
    b"fieldset",
    b"figcaption",
    b"figure",
    b"footer",
    b"form",
    b"h1",
    b"h2",
    b"h3",
    b"h4",
    b"h5",
    b"h6",
    b"header",
    b"hr",
    b"li",
    b"main",
    b"nav",
    b"ol",
    b"p",
    b"pre",
    b"section",
    b"table",
    b"tr",
    b"ul",
];

/// The text of an HTML fragment: entities decoded, scripts and styles dropped, one line a block, in normal
/// form. Works on the token stream alone, so that nesting costs nothing however deep.
pub fn html_to_text(html: &str) -> String {
    if !html.contains(['<', '&']) {
        return normalise::text(html);
    }
    let mut text = String::with_capacity(html.len());
    let mut skipping = 0_usize;
    let handle = |event: CallbackEvent<'_>, _: Span<()>| -> Option<Infallible> {
        match event {
            CallbackEvent::OpenStartTag { name } if SKIPPED.contains(&name) => skipping += 1,
            CallbackEvent::EndTag { name } if SKIPPED.contains(&name) => {
                skipping = skipping.saturating_sub(1)
            }
            CallbackEvent::OpenStartTag { name } | CallbackEvent::EndTag { name } => {
                if BLOCKS.contains(&name) {
                    text.push('\n');
                } else if matches!(name, b"td" | b"th") {
                    text.push(' ');
                }
            }
            CallbackEvent::String { value } if skipping == 0 => {
                // A line break in the source is only a space to the reader.
                text.extend(
                    String::from_utf8_lossy(value).chars().map(|c| if c.is_whitespace() { ' ' } else { c }),
                );
            }
            _ => {}
        }
        None
    };
    let mut emitter = CallbackEmitter::new(handle);
    emitter.naively_switch_states(true);
    let Ok(()) = Tokenizer::new_with_emitter(html, emitter).finish();
    normalise::lines(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_lines_and_inline_markup_goes() {
        let html = "<p>One <b>bold</b>\n step.</p><p>Two<br/>three</p><ul><li>a</li><li>b</li></ul>tail";
        assert_eq!(html_to_text(html), "One bold step.\nTwo\nthree\na\nb\ntail");
        assert_eq!(html_to_text("<table><tr><td>a</td><td>b</td></tr></table>"), "a b");
    }

    #[test]
    fn scripts_and_styles_are_dropped() {
        let html = "a<script>if (x < y) { alert('<p>no</p>') }</script><style>p{}</style><noscript><img></noscript>b";
        assert_eq!(html_to_text(html), "ab");
        assert_eq!(html_to_text("a<script>never closed"), "a");
    }

    #[test]
    fn entities_are_decoded_once() {
        assert_eq!(
            html_to_text("Fish &amp; chips&nbsp;&euro;5 &#8212; &lt;b&gt; &amp;amp; caf&eacute"),
            "Fish & chips €5 — <b> &amp; café"
        );
        assert_eq!(html_to_text("AT&T & 3 < 4"), "AT&T & 3 < 4");
    }

    #[test]
    fn comments_and_attributes_are_not_text() {
        assert_eq!(html_to_text("<!-- no --><a href='x>y' title=\"no\">yes</a>"), "yes");
    }

    #[test]
    fn endless_nesting_costs_nothing() {
        let html = "<div><b>".repeat(100_000) + "deep";
        assert_eq!(html_to_text(&html), "deep");
    }
}
