//! Field and enum value lookup by name.

/// A hash table from names to small indices, laid out once. The names come from the descriptors, so nobody outside
/// can choose them to collide; a lookup hashes its key once and compares a handful of names at most.
#[derive(Debug, Default)]
pub(crate) struct NameTable {
    slots: Vec<Option<(Box<str>, usize)>>,
}

impl NameTable {
    /// A name that comes twice keeps its first index.
    pub(crate) fn new<'a>(names: impl IntoIterator<Item = (&'a str, usize)>) -> Self {
        let names: Vec<_> = names.into_iter().collect();
        let mut slots: Vec<Option<(Box<str>, usize)>> =
            vec![None; (names.len() * 2).next_power_of_two().max(2)];
        for (name, index) in names {
            let mut at = hash(name) & (slots.len() - 1);
            loop {
                match &slots[at] {
                    Some((taken, _)) if &**taken == name => break,
                    Some(_) => at = (at + 1) & (slots.len() - 1),
                    None => {
                        slots[at] = Some((Box::from(name), index));
                        break;
                    }
                }
            }
        }
        NameTable { slots }
    }

    pub(crate) fn get(&self, name: &str) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = hash(name) & mask;
        while let Some((taken, index)) = &self.slots[at] {
            if &**taken == name {
                return Some(*index);
            }
            at = (at + 1) & mask;
        }
        None
    }
}

/// FNV-1a.
fn hash(name: &str) -> usize {
    let folded = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The low bits select the slot: fold the better-mixed high half in.
    (folded ^ (folded >> 32)) as usize
}
