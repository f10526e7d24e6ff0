//! The tables of `docs/EDGE.md` name tests that exist.

use std::{fs, path::Path};

/// The text of every Rust file below a folder.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_feature_names_a_test_that_exists() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    for folder in ["src", "tests"] {
        sources(&here.join(folder), &mut code);
    }
    let page = fs::read_to_string(here.join("../docs/EDGE.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).collect();
    assert!(rows.len() > 50, "{} rows", rows.len());
    for row in rows {
        let cells: Vec<&str> = row.split(" | ").collect();
        // Behind the first and last back quote of a pair.
        for name in cells[1].split('`').skip(1).step_by(2) {
            let exists = match name.contains(['/', '.']) {
                true => ["tests", "src", ".."].iter().any(|folder| here.join(folder).join(name).exists()),
                false => {
                    code.contains(&format!("fn {name}(")) || code.contains(&format!("#[test] fn {name}("))
                }
            };
            assert!(exists, "no `{name}`: {row}");
        }
    }
}
