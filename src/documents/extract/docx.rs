//! Word documents (ECMA-376): a ZIP archive with XML inside.

use std::io::{BufReader, Cursor, ErrorKind, Read};

use quick_xml::Reader;
use quick_xml::events::Event;
use zip::ZipArchive;
use zip::result::ZipError;

use super::{Format, MAX_INFLATED_BYTES, Refusal, Text};

/// The parts that hold text, in reading order; the first must be there.
const PARTS: [&str; 3] = ["word/document.xml", "word/footnotes.xml", "word/endnotes.xml"];
/// Deepest nesting of elements that is followed.
const MAX_DEPTH: usize = 1_000;

pub(super) fn read(bytes: &[u8], text: &mut Text) -> Result<(), Refusal> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|_| Refusal::Damaged(Format::Zip))?;
    let mut left = MAX_INFLATED_BYTES;
    for (number, name) in PARTS.into_iter().enumerate() {
        match (entry_is_encrypted(&mut archive, name), number) {
            (Some(true), _) => return Err(Refusal::Encrypted),
            (Some(false), _) => {}
            (None, 0) => return Err(Refusal::UnknownType),
            (None, _) => continue,
        }
        let part = archive.by_name(name).map_err(|error| match error {
            ZipError::InvalidPassword => Refusal::Encrypted,
            _ => Refusal::Damaged(Format::Docx),
        })?;
        if part.size() > left {
            return Err(Refusal::TooLarge);
        }
        // The listing may lie about the size.
        let mut bounded = Bounded { part, left };
        read_part(BufReader::new(&mut bounded), text)?;
        left = bounded.left;
    }
    Ok(())
}

/// Whether an OLE container is an encrypted Office file (MS-OFFCRYPTO 2.3.4).
pub(super) fn is_encrypted(ole: &[u8]) -> bool {
    let name: Vec<u8> = "EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes).collect();
    ole.windows(name.len()).any(|window| window == name)
}

/// Whether an entry is encrypted, when there is one of this name.
fn entry_is_encrypted(archive: &mut ZipArchive<Cursor<&[u8]>>, name: &str) -> Option<bool> {
    let index = archive.index_for_name(name)?;
    archive.by_index_raw(index).ok().map(|entry| entry.encrypted())
}

/// Reads as much as is allowed, then fails.
struct Bounded<R> {
    part: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.part.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or(ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

fn read_part(part: impl std::io::BufRead, text: &mut Text) -> Result<(), Refusal> {
    let mut reader = Reader::from_reader(part);
    reader.config_mut().expand_empty_elements = true;
    let mut buffer = Vec::new();
    let (mut depth, mut skipping, mut in_text) = (0_usize, 0_usize, false);
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer).map_err(refusal)? {
            Event::Start(start) => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Refusal::Damaged(Format::Docx));
                }
                match start.local_name().as_ref() {
                    // The same again, for older programs.
                    "Fallback" => skipping += 1,
                    _ if skipping > 0 => {}
                    "t" => in_text = true,
                    "tab" => text.push("\t"),
                    "br" | "cr" => text.push("\n"),
                    "noBreakHyphen" => text.push("-"),
                    _ => {}
                }
            }
            Event::End(end) => {
                depth = depth.saturating_sub(1);
                match end.local_name().as_ref() {
                    "Fallback" => skipping = skipping.saturating_sub(1),
                    "t" => in_text = false,
                    "p" => text.push("\n"),
                    "tc" => text.push("\t"),
                    _ => {}
                }
            }
            Event::Text(piece) if in_text && skipping == 0 => text.push(&piece),
            Event::CData(piece) if in_text && skipping == 0 => text.push(&piece),
            Event::GeneralRef(reference) if in_text && skipping == 0 => match reference.resolve_char_ref() {
                Ok(Some(c)) => text.push(c.encode_utf8(&mut [0; 4])),
                _ => text.push(entity(&reference)),
            },
            Event::Eof if depth > 0 => return Err(Refusal::Damaged(Format::Docx)),
            Event::Eof => return Ok(()),
            _ => {}
        }
    }
}

/// XML's own entities; no other is ever expanded.
fn entity(name: &str) -> &'static str {
    match name {
        "amp" => "&",
        "lt" => "<",
        "gt" => ">",
        "quot" => "\"",
        "apos" => "'",
        _ => "",
    }
}

fn refusal(error: quick_xml::Error) -> Refusal {
    match error {
        quick_xml::Error::Io(error) if error.kind() == ErrorKind::FileTooLarge => Refusal::TooLarge,
        _ => Refusal::Damaged(Format::Docx),
    }
}
