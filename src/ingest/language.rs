//! Which language a text is in.
//!
//! Two witnesses are heard: trigrams (whatlang, Europe's languages) and function words (the ten languages the Hub
//! tracks). The language that a feed declares decides when they are unsure, and loses when both or the first
//! firmly say otherwise.
//!
//! Why not lingua: on the hundred headlines and sentences of the tests, undeclared, it is right 98 times, this
//! module 89 times (whatlang alone 83 times), and both always on a headline with its body. But it adds 52 MB of
//! resident memory and 40 MB to the binary, and limited to ten languages it calls Catalan, Czech or Turkish one
//! of them with a confidence of 0.7 and more.

use std::sync::LazyLock;

use whatlang::{Detector, Lang};

/// Trigram confidence that counts as firm.
const FIRM: f64 = 0.9;
/// Letters below which trigrams are never firm.
const FIRM_LETTERS: usize = 40;
/// Function words that make their language's case, and make it firm beside agreeing trigrams; one more
/// makes it firm alone.
const CLEAR_WORDS: usize = 2;
const FIRM_WORDS: usize = 3;
/// Text looked at, in bytes; more changes no answer.
const MAX_LENGTH: usize = 4_000;

/// Confidence by what speaks for a language. Below 0.5 only the declaration does, or faint trigrams.
const BOTH_WITNESSES: f64 = 0.9;
const WORDS_ALONE: f64 = 0.7;
const DECLARED_AND_A_WITNESS: f64 = 0.7;
const DECLARED_ALONE: f64 = 0.4;

/// The language of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Detected {
    /// ISO 639-1 code, or `und` when nothing is known.
    pub language: String,
    /// 0 to 1; from 0.5 on the text itself bears it out.
    pub confidence: f64,
}

/// Detects the language of plain text. `declared` is the tag that the entry, feed or source declares, such as
/// `en-GB`.
pub fn detect(text: &str, declared: Option<&str>) -> Detected {
    let text = &text[..text.floor_char_boundary(MAX_LENGTH)];
    let declared = declared.and_then(primary_subtag);
    let trigrams = by_trigrams(text);
    let words = by_function_words(text);
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();

    let evidence = match (trigrams, words) {
        (Some((language, confidence)), Some((by_words, count))) if language == by_words => {
            let firm = letters >= FIRM_LETTERS && (count >= FIRM_WORDS || confidence >= FIRM);
            Some((language, confidence.max(BOTH_WITNESSES), firm))
        }
        (Some((language, confidence)), _) if confidence >= FIRM && letters >= FIRM_LETTERS => {
            Some((language, confidence, true))
        }
        (_, Some((language, count))) => {
            Some((language, WORDS_ALONE, letters >= FIRM_LETTERS && count > FIRM_WORDS))
        }
        // Short texts reach any trigram confidence by chance.
        (Some((language, confidence)), None) => Some((
            language,
            if letters < FIRM_LETTERS { confidence.min(DECLARED_ALONE) } else { confidence },
            false,
        )),
        (None, None) => None,
    };
    let (language, confidence) = match (evidence, declared) {
        (Some((language, confidence, _)), Some(declared)) if language == declared => {
            (language.to_owned(), confidence.max(DECLARED_AND_A_WITNESS))
        }
        (Some((language, confidence, true)), _) | (Some((language, confidence, _)), None) => {
            (language.to_owned(), confidence)
        }
        (_, Some(declared)) => {
            let borne_out = trigrams.is_some_and(|(language, _)| language == declared);
            (declared, if borne_out { DECLARED_AND_A_WITNESS } else { DECLARED_ALONE })
        }
        (None, None) => ("und".to_owned(), 0.0),
    };
    Detected { language, confidence }
}

/// `en` of `en-GB`; Norwegian's two written forms as one.
fn primary_subtag(tag: &str) -> Option<String> {
    let primary = tag.split(['-', '_']).next()?.trim().to_ascii_lowercase();
    match primary.as_str() {
        "nb" | "nn" => Some("no".to_owned()),
        _ => (primary.len() == 2 && primary.bytes().all(|b| b.is_ascii_lowercase())).then_some(primary),
    }
}

/// The language with the most function words, if its lead is clear, and their number.
fn by_function_words(text: &str) -> Option<(&'static str, usize)> {
    let mut counts = [0_usize; FUNCTION_WORDS.len()];
    for word in text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()) {
        let word = word.to_lowercase();
        for (count, (_, words)) in counts.iter_mut().zip(FUNCTION_WORDS) {
            *count += usize::from(words.contains(&word.as_str()));
        }
    }
    let (best, &count) = counts.iter().enumerate().max_by_key(|(_, count)| **count)?;
    let second = counts.iter().enumerate().filter(|(n, _)| *n != best).map(|(_, count)| *count).max()?;
    (count >= CLEAR_WORDS && count >= 2 * second).then_some((FUNCTION_WORDS[best].0, count))
}

/// Frequent words that say little but their language.
const FUNCTION_WORDS: [(&str, &[&str]); 10] = [
    (
        "en",
        &[
            "the", "of", "and", "to", "with", "after", "for", "from", "that", "has", "have", "was", "were",
            "is", "are", "by", "as", "its", "their", "says", "said", "would", "will", "should", "which",
            "when", "this", "been", "not", "but", "more", "over", "why", "into", "than", "it",
        ],
    ),
    (
        "de",
        &[
            "der", "die", "das", "und", "den", "dem", "des", "ein", "eine", "einen", "einer", "für", "mit",
            "auf", "von", "nach", "bei", "im", "zum", "zur", "nicht", "sich", "ist", "wird", "werden",
            "sind", "war", "auch", "über", "als", "wie", "warum", "mehr", "vor", "gegen", "noch",
        ],
    ),
    (
        "fr",
        &[
            "le", "la", "les", "des", "du", "et", "un", "une", "dans", "pour", "sur", "par", "au", "aux",
            "avec", "est", "sont", "pas", "qui", "que", "ses", "son", "après", "été", "plus", "ont", "cette",
            "ce", "pourquoi", "leur", "selon", "contre",
        ],
    ),
    (
        "es",
        &[
            "el", "los", "las", "del", "y", "por", "para", "con", "una", "un", "que", "en", "al", "más",
            "su", "sus", "se", "la", "es", "fue", "ha", "han", "desde", "tras", "como", "lo", "según",
            "sobre", "pero", "porque", "entre",
        ],
    ),
    (
        "it",
        &[
            "il", "lo", "la", "gli", "i", "di", "del", "della", "dei", "delle", "dal", "dalla", "nel",
            "nella", "sul", "sulla", "sui", "e", "per", "con", "che", "non", "una", "un", "si", "è", "sono",
            "dopo", "perché", "più", "ai", "al", "alla", "alle", "sulle", "degli", "hanno", "stato",
        ],
    ),
    (
        "pl",
        &[
            "w", "z", "na", "i", "do", "nie", "się", "o", "po", "za", "że", "jest", "są", "przez", "dla",
            "od", "przed", "oraz", "jak", "ale", "ze", "we", "który", "która", "które", "gdy", "dlaczego",
            "był", "była", "było", "już", "tylko", "niż",
        ],
    ),
    (
        "nl",
        &[
            "de", "het", "een", "van", "en", "op", "voor", "met", "te", "naar", "bij", "niet", "zijn", "is",
            "wordt", "worden", "door", "uit", "aan", "dat", "die", "ook", "om", "tot", "waarom", "moet",
            "meer", "dan", "werd", "toen", "over", "tegen", "eens", "heeft",
        ],
    ),
    (
        "sv",
        &[
            "och", "att", "det", "som", "på", "är", "av", "för", "med", "till", "den", "inte", "om", "ett",
            "en", "har", "från", "efter", "vid", "när", "sedan", "också", "blev", "därför", "bör", "mot",
            "mer", "eftersom", "ska", "kan", "nya", "de",
        ],
    ),
    (
        "da",
        &[
            "og", "at", "det", "som", "på", "er", "af", "for", "med", "til", "den", "ikke", "om", "et", "en",
            "har", "fra", "efter", "ved", "når", "også", "blev", "derfor", "bør", "mod", "mere", "fordi",
            "skal", "kan", "nye", "de", "være", "ud", "går",
        ],
    ),
    (
        "pt",
        &[
            "o", "os", "as", "do", "da", "dos", "das", "em", "no", "na", "nos", "nas", "por", "para", "com",
            "uma", "um", "que", "não", "ao", "aos", "à", "às", "mais", "e", "é", "se", "pelo", "pela",
            "após", "são", "foi", "sobre", "porque",
        ],
    ),
];

/// Europe's languages and those its press is read beside, with their ISO 639-1 codes. Others are not looked
/// for: on a headline they only compete (Afrikaans with Dutch, Latin with English).
const LANGUAGES: [(Lang, &str); 39] = [
    (Lang::Ara, "ar"),
    (Lang::Bel, "be"),
    (Lang::Bul, "bg"),
    (Lang::Cat, "ca"),
    (Lang::Ces, "cs"),
    (Lang::Cmn, "zh"),
    (Lang::Dan, "da"),
    (Lang::Deu, "de"),
    (Lang::Ell, "el"),
    (Lang::Eng, "en"),
    (Lang::Est, "et"),
    (Lang::Fin, "fi"),
    (Lang::Fra, "fr"),
    (Lang::Heb, "he"),
    (Lang::Hin, "hi"),
    (Lang::Hrv, "hr"),
    (Lang::Hun, "hu"),
    (Lang::Hye, "hy"),
    (Lang::Ita, "it"),
    (Lang::Jpn, "ja"),
    (Lang::Kat, "ka"),
    (Lang::Kor, "ko"),
    (Lang::Lav, "lv"),
    (Lang::Lit, "lt"),
    (Lang::Mkd, "mk"),
    (Lang::Nld, "nl"),
    (Lang::Nob, "no"),
    (Lang::Pes, "fa"),
    (Lang::Pol, "pl"),
    (Lang::Por, "pt"),
    (Lang::Ron, "ro"),
    (Lang::Rus, "ru"),
    (Lang::Slk, "sk"),
    (Lang::Slv, "sl"),
    (Lang::Spa, "es"),
    (Lang::Srp, "sr"),
    (Lang::Swe, "sv"),
    (Lang::Tur, "tr"),
    (Lang::Ukr, "uk"),
];

static TRIGRAMS: LazyLock<Detector> =
    LazyLock::new(|| Detector::with_allowlist(LANGUAGES.iter().map(|(language, _)| *language).collect()));

fn by_trigrams(text: &str) -> Option<(&'static str, f64)> {
    let info = TRIGRAMS.detect(text)?;
    let (_, code) = LANGUAGES.iter().find(|(language, _)| *language == info.lang())?;
    Some((code, info.confidence()))
}

#[cfg(test)]
#[path = "language_tests.rs"]
mod tests;
