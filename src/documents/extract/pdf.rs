//! PDF.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pdf_extract::{Document, PlainTextOutput, output_doc_page};

use super::{Format, MAX_PAGES, Refusal, Text};

/// What became of a PDF's pages.
#[derive(Debug)]
pub(super) struct Pages {
    pub all: usize,
    /// The parser failed on these; the others are read.
    pub unread: usize,
}

pub(super) fn read(bytes: &[u8], text: &mut Text) -> Result<Pages, Refusal> {
    let mut document =
        catch_unwind(|| Document::load_mem(bytes)).ok().and_then(Result::ok).ok_or_else(|| {
            // A kind of encryption that the parser does not know ends it too.
            let encrypted = bytes.windows(8).any(|window| window == b"/Encrypt");
            if encrypted { Refusal::Encrypted } else { Refusal::Damaged(Format::Pdf) }
        })?;
    // Many are encrypted with an empty password, only to forbid printing: those can be read.
    if document.is_encrypted() && document.decrypt("").is_err() {
        return Err(Refusal::Encrypted);
    }
    let all = document.get_pages().len();
    match all {
        0 => return Err(Refusal::Damaged(Format::Pdf)),
        1..=MAX_PAGES => {}
        _ => return Err(Refusal::TooManyPages(all)),
    }
    let mut unread = 0;
    for number in (1..).take(all) {
        let mut page = String::new();
        // The crate panics on some of what it finds; one odd page does not spoil the others.
        let read = catch_unwind(AssertUnwindSafe(|| {
            output_doc_page(&document, &mut PlainTextOutput::new(&mut page), number).is_ok()
        }));
        unread += usize::from(!read.unwrap_or(false));
        text.push(&page);
        text.push("\n");
        if text.full {
            break;
        }
    }
    if unread == all { Err(Refusal::Damaged(Format::Pdf)) } else { Ok(Pages { all, unread }) }
}
