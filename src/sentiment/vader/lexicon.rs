//! What is known about a word: its valence and its part in the rules, found by one look-up.

/// The largest key in bytes: the last of a key's 24 bytes holds its length.
const MAX_KEY: usize = 23;

const LEXICON: &str = include_str!("lexicon.tsv");

/// How much an intensifier adds to a valence and a dampener takes from it.
pub(super) const BOOST: f64 = 0.293;

const INTENSIFIERS: &[&str] = &[
    "absolutely",
    "amazingly",
    "awfully",
    "completely",
    "considerable",
    "considerably",
    "decidedly",
    "deeply",
    "effing",
    "enormous",
    "enormously",
    "entirely",
    "especially",
    "exceptional",
    "exceptionally",
    "extreme",
    "extremely",
    "fabulously",
    "flippin",
    "flipping",
    "frackin",
    "fracking",
    "frickin",
    "fricking",
    "friggin",
    "frigging",
    "fuckin",
    "fucking",
    "fuggin",
    "fugging",
    "fully",
    "greatly",
    "hella",
    "highly",
    "hugely",
    "incredible",
    "incredibly",
    "intensely",
    "major",
    "majorly",
    "more",
    "most",
    "particularly",
    "purely",
    "quite",
    "really",
    "remarkably",
    "so",
    "substantially",
    "thoroughly",
    "total",
    "totally",
    "tremendous",
    "tremendously",
    "uber",
    "unbelievably",
    "unusually",
    "utter",
    "utterly",
    "very",
];

const DAMPENERS: &[&str] = &[
    "almost",
    "barely",
    "hardly",
    "kind-of",
    "kinda",
    "kindof",
    "less",
    "little",
    "marginal",
    "marginally",
    "occasional",
    "occasionally",
    "partly",
    "scarce",
    "scarcely",
    "slight",
    "slightly",
    "somewhat",
    "sort-of",
    "sorta",
    "sortof",
];

/// The negations that do not hold "n't"; [`Lexicon::term`] sees to the others.
const NEGATIONS: &[&str] = &[
    "aint", "arent", "cannot", "cant", "couldnt", "darent", "despite", "didnt", "doesnt", "dont", "hadnt",
    "hasnt", "havent", "isnt", "mightnt", "mustnt", "neednt", "neither", "never", "none", "nope", "nor",
    "not", "nothing", "nowhere", "oughtnt", "rarely", "seldom", "shant", "shouldnt", "uh-uh", "uhuh",
    "wasnt", "werent", "without", "wont", "wouldnt",
];

/// The words that a rule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Ass,
    At,
    Bad,
    Beating,
    Bomb,
    Bus,
    But,
    Death,
    Die,
    Doubt,
    Enough,
    For,
    Heart,
    Just,
    Kind,
    Kiss,
    Least,
    Never,
    No,
    Nor,
    Of,
    Or,
    Right,
    Shit,
    So,
    Sort,
    Stop,
    The,
    This,
    To,
    Very,
    Without,
    Yeah,
    /// A word that no rule names.
    Other,
}

const RULE_WORDS: &[(&str, Word)] = &[
    ("ass", Word::Ass),
    ("at", Word::At),
    ("bad", Word::Bad),
    ("beating", Word::Beating),
    ("bomb", Word::Bomb),
    ("bus", Word::Bus),
    ("but", Word::But),
    ("death", Word::Death),
    ("die", Word::Die),
    ("doubt", Word::Doubt),
    ("enough", Word::Enough),
    ("for", Word::For),
    ("heart", Word::Heart),
    ("just", Word::Just),
    ("kind", Word::Kind),
    ("kiss", Word::Kiss),
    ("least", Word::Least),
    ("never", Word::Never),
    ("no", Word::No),
    ("nor", Word::Nor),
    ("of", Word::Of),
    ("or", Word::Or),
    ("right", Word::Right),
    ("shit", Word::Shit),
    ("so", Word::So),
    ("sort", Word::Sort),
    ("stop", Word::Stop),
    ("the", Word::The),
    ("this", Word::This),
    ("to", Word::To),
    ("very", Word::Very),
    ("without", Word::Without),
    ("yeah", Word::Yeah),
];

/// Everything the rules ask about one word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Term {
    /// Mean valence, -4 to 4, of a word of the lexicon.
    pub valence: Option<f64>,
    /// What the word adds to a positive valence after it: [`BOOST`], its negative, or 0.
    pub boost: f64,
    /// Whether it negates what follows.
    pub negates: bool,
    /// Which rule names it.
    pub word: Word,
}

impl Term {
    const PLAIN: Self = Self { valence: None, boost: 0.0, negates: false, word: Word::Other };
    const NEGATION: Self = Self { negates: true, ..Self::PLAIN };
}

/// A lower-case ASCII word, padded with zeros, its length in the last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key([u64; 3]);

impl Key {
    /// The key of the ASCII word that these bytes begin with, or `None` where it is too long for one.
    fn of_ascii(bytes: &[u8], length: usize) -> Option<Self> {
        if length > MAX_KEY {
            return None;
        }
        let mut key = [0; 3];
        for (at, part) in (0..length).step_by(8).zip(&mut key) {
            // A load of fixed size where the text goes on far enough; the mask drops what is behind the word.
            let rest = &bytes[at..];
            let chunk = rest.first_chunk().copied().unwrap_or_else(|| {
                let mut chunk = [0; 8];
                chunk[..rest.len()].copy_from_slice(rest);
                chunk
            });
            let mask = u64::MAX >> (64 - 8 * (length - at).min(8));
            *part = lower_case(u64::from_le_bytes(chunk) & mask);
        }
        key[2] |= (length as u64) << 56;
        Some(Self(key))
    }

    /// The key of any word in lower case, or `None` where no word of the lexicon, all ASCII, can equal it.
    fn of(word: &str) -> Option<Self> {
        // Only U+212A KELVIN SIGN becomes ASCII here, yet the reference sees "Kill" in it too.
        let mut bytes = [0u8; MAX_KEY];
        let mut length = 0;
        for c in word.chars().flat_map(char::to_lowercase) {
            *bytes.get_mut(length)? = u8::try_from(c).ok().filter(u8::is_ascii)?;
            length += 1;
        }
        Self::of_ascii(&bytes, length)
    }

    fn hash(self) -> u64 {
        let [a, b, c] = self.0;
        let mixed = a.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ b.wrapping_mul(0xc2b2_ae3d_27d4_eb4f).rotate_left(29)
            ^ c.wrapping_mul(0x1656_67b1_9e37_79f9).rotate_left(43);
        (mixed ^ (mixed >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Eight ASCII characters in lower case: adding moves the letters from A up, and those beyond Z, into a byte's top
/// bit, where the difference tells the capitals.
fn lower_case(chars: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let from_a = chars + EACH * u64::from(0x80 - b'A');
    let beyond_z = chars + EACH * u64::from(0x80 - b'Z' - 1);
    chars | (((from_a & !beyond_z) & (EACH * 0x80)) >> 2)
}

/// A slot of the hash table: sixteen bits of the hash, so that a miss seldom reads an entry, and where
/// the entry is.
#[derive(Debug, Clone, Copy)]
struct Slot {
    tag: u16,
    entry: u16,
}

const EMPTY: Slot = Slot { tag: 0, entry: u16::MAX };
const SLOT_BITS: u32 = 15;
const SLOTS: usize = 1 << SLOT_BITS;

/// All terms, in an open-addressed hash table that is at most a quarter full.
#[derive(Debug)]
pub(super) struct Lexicon {
    slots: Vec<Slot>,
    entries: Vec<(Key, Term)>,
}

impl Lexicon {
    /// Reads the embedded data.
    pub fn embedded() -> Self {
        let mut lexicon = Self { slots: vec![EMPTY; SLOTS], entries: Vec::with_capacity(8192) };
        for line in LEXICON.lines() {
            let (word, mean) = line.split_once('\t').expect("every line of lexicon.tsv holds a tab");
            lexicon.term_mut(word).valence =
                Some(mean.parse().expect("every mean in lexicon.tsv is a number"));
        }
        for word in INTENSIFIERS {
            lexicon.term_mut(word).boost = BOOST;
        }
        for word in DAMPENERS {
            lexicon.term_mut(word).boost = -BOOST;
        }
        for word in NEGATIONS {
            lexicon.term_mut(word).negates = true;
        }
        for (word, rule) in RULE_WORDS {
            lexicon.term_mut(word).word = *rule;
        }
        lexicon
    }

    /// The term of a word, which may be in any case.
    pub fn term(&self, word: &str) -> &Term {
        if word.is_ascii() {
            self.ascii_term(word.as_bytes(), word.len(), word.contains('\''))
        } else {
            self.look_up(Key::of(word)).unwrap_or_else(|| unknown(word.as_bytes()))
        }
    }

    /// The term of the ASCII word of this length that these bytes begin with: what follows it in the text lets
    /// it be read faster.
    pub fn ascii_term(&self, bytes: &[u8], length: usize, has_apostrophe: bool) -> &Term {
        self.look_up(Key::of_ascii(bytes, length))
            .unwrap_or_else(|| if has_apostrophe { unknown(&bytes[..length]) } else { &Term::PLAIN })
    }

    fn look_up(&self, key: Option<Key>) -> Option<&Term> {
        let entry = self.find(key?).ok()?;
        Some(&self.entries[entry].1)
    }

    fn term_mut(&mut self, word: &str) -> &mut Term {
        let key = Key::of(word).expect("embedded words are short ASCII");
        let entry = self.find(key).unwrap_or_else(|slot| {
            let entry = self.entries.len();
            self.slots[slot] = Slot { tag: tag(key.hash()), entry: entry as u16 };
            self.entries.push((key, Term::PLAIN));
            entry
        });
        &mut self.entries[entry].1
    }

    /// The entry of a key, or else the slot where it belongs.
    fn find(&self, key: Key) -> Result<usize, usize> {
        let hash = key.hash();
        let mut slot = (hash >> (64 - SLOT_BITS)) as usize;
        loop {
            let Slot { tag: found, entry } = self.slots[slot];
            if entry == EMPTY.entry {
                return Err(slot);
            }
            let entry = usize::from(entry);
            if found == tag(hash) && self.entries[entry].0 == key {
                return Ok(entry);
            }
            slot = (slot + 1) % SLOTS;
        }
    }
}

/// The term of a word that the lexicon does not hold.
fn unknown(word: &[u8]) -> &'static Term {
    let negates = word.windows(3).any(|three| three.eq_ignore_ascii_case(b"n't"));
    if negates { &Term::NEGATION } else { &Term::PLAIN }
}

/// Bits of the hash that do not choose the slot.
fn tag(hash: u64) -> u16 {
    (hash >> 24) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_lexicon_is_found_in_any_case() {
        let lexicon = Lexicon::embedded();
        assert!(lexicon.entries.len() * 4 <= SLOTS);
        for line in LEXICON.lines() {
            let (word, mean) = line.split_once('\t').expect("a tab");
            let mean: f64 = mean.parse().expect("a number");
            assert_eq!(lexicon.term(word).valence, Some(mean), "{word}");
            assert_eq!(lexicon.term(&word.to_uppercase()).valence, Some(mean), "{word}");
        }
    }

    #[test]
    fn modifiers_have_no_valence_of_their_own() {
        let lexicon = Lexicon::embedded();
        for word in INTENSIFIERS.iter().chain(DAMPENERS).chain(NEGATIONS) {
            assert_eq!(lexicon.term(word).valence, None, "{word}");
        }
    }

    #[test]
    fn a_word_is_not_taken_for_its_beginning() {
        let lexicon = Lexicon::embedded();
        for word in
            ["good\0", "goo", "", "\0", "unbelievablygoodbutlong", "unbelievablygoodbutlonger", "göod"]
        {
            assert_eq!(lexicon.term(word), &Term::PLAIN, "{word}");
        }
    }

    #[test]
    fn contractions_negate_wherever_they_stand() {
        let lexicon = Lexicon::embedded();
        for word in
            ["don't", "WOULDN'T", "couldn't've", "überhauptn't", "a-very-long-word-with-shouldn't-in-it"]
        {
            assert!(lexicon.term(word).negates, "{word}");
        }
        assert!(!lexicon.term("don’t").negates);
    }

    #[test]
    fn the_kelvin_sign_lowers_to_k() {
        assert_eq!(Lexicon::embedded().term("\u{212a}ill").valence, Lexicon::embedded().term("kill").valence);
    }
}
