//! Fuzzing without a special toolchain: the kept corpus, and inputs mutated from it by a fixed seed.
//!
//! `EUHUB_FUZZ_ROUNDS` says how many mutations each target tries; more rounds go on where fewer ended. An input that
//! fails is printed: once it is understood it goes into `tests/corpus`.

use std::fmt::Write as _;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

mod mutate;

pub use mutate::replace;
use mutate::{Random, mutate};

/// Time after which one small input counts as a hang, on however slow a machine.
const HANG: Duration = Duration::from_secs(120);

type Edit = fn(&[u8], Range<usize>, &[u8]) -> Vec<u8>;

/// What the mutator knows of a format.
pub struct Grammar {
    /// Parts that may be dropped, repeated, or put in each other's place; they may lie in one another.
    pub pieces: fn(&[u8]) -> Vec<Range<usize>>,
    /// Puts other bytes in the place of a piece.
    pub edit: Edit,
    /// What stands between a piece and the next of its kind.
    pub joint: &'static [u8],
    /// Pieces worth trying.
    pub words: &'static [&'static [u8]],
}

/// An input, and the message type that it is for (empty where there is no such thing).
#[derive(Clone)]
pub struct Input {
    pub message: String,
    pub bytes: Vec<u8>,
}

/// Feeds `check` the corpus of a target, then mutations of it.
///
/// # Panics
/// When `check` does, or takes too long; the input is printed.
pub fn fuzz(target: &str, grammar: &'static Grammar, default_rounds: usize, check: fn(&Input)) {
    let rounds = match std::env::var("EUHUB_FUZZ_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("EUHUB_FUZZ_ROUNDS is a number"),
        Err(_) => default_rounds,
    };
    let seeds = corpus(target);
    assert!(seeds.len() >= 24, "{target}: only {} seeds", seeds.len());
    let mut random = Random::new(1);
    let mutations = seeds.clone();
    let mutations = (0..rounds).map(move |_| mutate(&mutations, grammar, &mut random));
    under_watch(seeds.into_iter().chain(mutations), check);
}

/// Runs `check` on each input in a thread of its own, so that a hang can be told and named.
pub fn under_watch(inputs: impl Iterator<Item = Input> + Send + 'static, check: fn(&Input)) {
    let current = Arc::new(Mutex::new(String::new()));
    let (alive, watch) = channel();
    let name = current.clone();
    let worker = std::thread::spawn(move || {
        for input in inputs {
            *name.lock().unwrap() = describe(&input);
            alive.send(()).unwrap();
            if let Err(failure) = catch_unwind(AssertUnwindSafe(|| check(&input))) {
                eprintln!("failing input: {}", describe(&input));
                resume_unwind(failure);
            }
        }
    });
    loop {
        match watch.recv_timeout(HANG) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("no end of {}", current.lock().unwrap()),
        }
    }
    if let Err(failure) = worker.join() {
        resume_unwind(failure);
    }
}

/// The seeds of `tests/corpus/<target>`: one a line, the message type before a colon and a space where there is one.
/// A `.hex` file holds hexadecimal bytes and comments behind `#`.
fn corpus(target: &str) -> Vec<Input> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut seeds = Vec::new();
    for file in files {
        let hex = file.extension().is_some_and(|extension| extension == "hex");
        let text = std::fs::read(&file).unwrap();
        for line in
            text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#"))
        {
            let typed = line.iter().position(|byte| *byte == b':').filter(|at| {
                line[..*at].iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'.') && *at > 0
            });
            let (message, bytes) = match typed {
                Some(at) => (String::from_utf8(line[..at].to_vec()).unwrap(), line[at + 1..].trim_ascii()),
                None => (String::new(), line),
            };
            let bytes = if hex { from_hex(bytes) } else { bytes.to_vec() };
            seeds.push(Input { message, bytes });
        }
    }
    seeds
}

fn from_hex(line: &[u8]) -> Vec<u8> {
    let line = std::str::from_utf8(line).unwrap();
    let digits: String = line.split('#').next().unwrap().split_whitespace().collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {line}");
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn describe(input: &Input) -> String {
    let hex = input.bytes.iter().take(4000).fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    format!("{}: {} bytes: {hex}\n{}", input.message, input.bytes.len(), input.bytes.escape_ascii())
}

/// Most bytes that were allocated at one time, a vector that grows counting twice while it is copied.
pub fn peak(run: impl FnOnce()) -> usize {
    allocation_counter::measure(run).bytes_max as usize
}
