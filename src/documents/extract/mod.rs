//! From a file's bytes to its text. The type is told by content, never by name. Parsers of foreign files may panic, loop or eat memory, so
//! that all of this runs in a process of its own ([`worker`]).

mod docx;
mod pdf;
mod plain;
pub mod worker;

use serde::{Deserialize, Serialize};

use crate::ingest::normalise;

/// Largest file, in bytes.
pub const MAX_FILE_BYTES: usize = 10 << 20;
/// Most pages of a PDF.
pub const MAX_PAGES: usize = 2_000;
/// Most bytes of text that are kept. PostgreSQL's text index takes a megabyte for each text.
pub const MAX_TEXT_BYTES: usize = 800_000;
/// Most bytes that a file's compressed parts may hold.
pub const MAX_INFLATED_BYTES: u64 = 64 << 20;

/// Where the signature of a PDF may begin: readers allow this much before it.
const PDF_SIGNATURE_WITHIN: usize = 1_024;
/// An OLE container: old Office files, and encrypted new ones.
const OLE_SIGNATURE: &[u8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1";

/// What a file holds.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Extracted {
    /// The type that the content has.
    pub media_type: String,
    /// The text in normal form.
    pub text: String,
    /// The file holds more text.
    pub truncated: bool,
    /// Pages, where the format has them.
    pub page_count: Option<i32>,
    /// Pages that the parser could not read.
    pub unread_page_count: i32,
}

/// Why a file is refused. Its `Display` is a sentence for users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No byte.
    #[error("Must not be empty.")]
    Empty,
    /// Nothing that is read here.
    #[error("Must be plain text, a PDF or a Word document (.docx); it is none of these by its content.")]
    UnknownType,
    /// A Word file from before 2007 or another OLE container.
    #[error("Is an old Office file; save it as .docx or PDF.")]
    OldOffice,
    /// RTF.
    #[error("Is an RTF file; save it as .docx or PDF.")]
    Rtf,
    /// A password is needed.
    #[error("Is encrypted; upload it without its password.")]
    Encrypted,
    /// The parser gives up.
    #[error("Is damaged: it cannot be read as the {0} that it begins as.")]
    Damaged(Format),
    /// Too many pages.
    #[error("Must have at most {MAX_PAGES} pages; it has {0}.")]
    TooManyPages(usize),
    /// A zip bomb, or a file of its size.
    #[error("Must hold at most {} MiB when decompressed.", MAX_INFLATED_BYTES >> 20)]
    TooLarge,
    /// A scan, or nothing at all.
    #[error("Holds no text. A scanned document must go through text recognition (OCR) first.")]
    NoText,
    /// The limits of the process were met, or its parser crashed.
    #[error("Cannot be read within the limits of time and memory, or is damaged.")]
    GaveUp,
}

/// A format that a file may begin as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// PDF.
    Pdf,
    /// ZIP, which Word documents are.
    Zip,
    /// A Word document by its listing.
    Docx,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pdf => "PDF",
            Self::Zip => "ZIP archive",
            Self::Docx => "Word document",
        })
    }
}

/// The text of a file. `charset` is what the uploader declared, where the file itself says nothing.
pub fn extract(bytes: &[u8], charset: Option<&str>) -> Result<Extracted, Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::Empty);
    }
    let head = &bytes[..bytes.len().min(PDF_SIGNATURE_WITHIN)];
    let mut text = Text::default();
    let (media_type, pages) = if head.windows(5).any(|window| window == b"%PDF-") {
        ("application/pdf", Some(pdf::read(bytes, &mut text)?))
    } else if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        docx::read(bytes, &mut text)?;
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", None)
    } else if bytes.starts_with(OLE_SIGNATURE) {
        return Err(if docx::is_encrypted(bytes) { Refusal::Encrypted } else { Refusal::OldOffice });
    } else if bytes.starts_with(b"{\\rtf") {
        return Err(Refusal::Rtf);
    } else {
        plain::read(bytes, charset, &mut text)?;
        ("text/plain", None)
    };
    let (text, truncated) = text.finish();
    if text.is_empty() {
        return Err(Refusal::NoText);
    }
    let count = |pages: usize| i32::try_from(pages).unwrap_or(i32::MAX);
    Ok(Extracted {
        media_type: media_type.into(),
        text,
        truncated,
        page_count: pages.as_ref().map(|pages| count(pages.all)),
        unread_page_count: pages.map_or(0, |pages| count(pages.unread)),
    })
}

/// Text as it comes in, up to its limit.
#[derive(Debug, Default)]
struct Text {
    text: String,
    full: bool,
}

impl Text {
    /// Adds what still fits; white space is put in order at the end, so that twice the limit is taken in.
    fn push(&mut self, more: &str) {
        let room = 2 * MAX_TEXT_BYTES - self.text.len();
        if more.len() > room {
            self.full = true;
        }
        self.text.push_str(&more[..more.floor_char_boundary(room)]);
    }

    /// The text in normal form, and whether some is missing.
    fn finish(self) -> (String, bool) {
        let mut text = normalise::lines(&self.text);
        let cut = text.len() > MAX_TEXT_BYTES;
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        (text, cut || self.full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_is_told_by_content() {
        let table: [(&[u8], Refusal); 8] = [
            (b"", Refusal::Empty),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", Refusal::UnknownType),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", Refusal::OldOffice),
            (b"{\\rtf1 hello}", Refusal::Rtf),
            (b"%PDF-1.7\nnothing", Refusal::Damaged(Format::Pdf)),
            (b"%PDF-1.7\ntrailer << /Encrypt 1 0 R >>", Refusal::Encrypted),
            (b"PK\x03\x04 broken off", Refusal::Damaged(Format::Zip)),
            (b" \n\t ", Refusal::NoText),
        ];
        for (bytes, refusal) in table {
            assert_eq!(extract(bytes, None), Err(refusal), "{}", bytes.escape_ascii());
        }
        let encrypted: Vec<u8> = OLE_SIGNATURE
            .iter()
            .copied()
            .chain("EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes))
            .collect();
        assert_eq!(extract(&encrypted, None), Err(Refusal::Encrypted));
    }

    #[test]
    fn text_is_cut_at_a_character() {
        let extracted = extract("é ".repeat(MAX_TEXT_BYTES).as_bytes(), None).unwrap();
        assert!(extracted.truncated && extracted.text.len() <= MAX_TEXT_BYTES);
        assert!(extracted.text.len() > MAX_TEXT_BYTES - 4);
        let whole = extract("a".repeat(MAX_TEXT_BYTES).as_bytes(), None).unwrap();
        assert!(!whole.truncated && whole.text.len() == MAX_TEXT_BYTES);
    }

    #[test]
    fn charsets() {
        let text = |bytes: &[u8], charset| extract(bytes, charset).unwrap().text;
        assert_eq!(text("Öl\r\n\r\nund  Gas".as_bytes(), None), "Öl\nund Gas");
        assert_eq!(text(b"\xff\xfe\xd6\x00l\x00", None), "Öl");
        assert_eq!(text(b"\xd6l \x80", None), "Öl €");
        assert_eq!(text(b"\xb3\xb1d", Some("iso-8859-2")), "łąd");
    }
}
