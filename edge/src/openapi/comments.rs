//! Comments of the proto files, as descriptions.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, FileDescriptor};

/// Leading comments by file and path in its descriptor.
pub(super) struct Comments(HashMap<(String, Vec<i32>), String>);

impl Comments {
    pub(super) fn of(pool: &DescriptorPool) -> Self {
        let mut comments = HashMap::new();
        for file in pool.files() {
            let Some(info) = &file.file_descriptor_proto().source_code_info else { continue };
            for location in &info.location {
                let comment = location.leading_comments.as_deref().or(location.trailing_comments.as_deref());
                if let Some(comment) = comment {
                    comments.insert((file.name().to_owned(), location.path.clone()), text(comment));
                }
            }
        }
        Self(comments)
    }

    /// The comment of an element; empty when it has none.
    pub(super) fn get(&self, file: &FileDescriptor, path: &[i32]) -> String {
        self.0.get(&(file.name().to_owned(), path.to_vec())).cloned().unwrap_or_default()
    }
}

/// Lines joined into paragraphs.
fn text(comment: &str) -> String {
    let mut text = String::new();
    for line in comment.lines().map(str::trim) {
        let list = line.starts_with(['-', '*']);
        match (line.is_empty(), text.is_empty() || text.ends_with('\n')) {
            (true, true) => {}
            (true, false) => text.push_str("\n\n"),
            (false, start) => {
                if !start {
                    text.push(if list { '\n' } else { ' ' });
                }
                text.push_str(line);
            }
        }
    }
    text.trim_end().to_owned()
}
