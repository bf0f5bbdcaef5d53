//! The support matrix in README.md is what the code says. `BLESS=1` writes it anew.
#![allow(clippy::unwrap_used)]

use berth_compose::support;

#[test]
fn the_readme_holds_the_support_matrix() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let (head, rest) = readme.split_once("<!-- matrix -->").unwrap();
    let (_, tail) = rest.split_once("<!-- end of matrix -->").unwrap();
    let fresh = format!("{head}<!-- matrix -->\n{}<!-- end of matrix -->{tail}", support::matrix());
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &fresh).unwrap();
    } else {
        assert!(readme == fresh, "README.md is stale: run BLESS=1 cargo test -p berth-compose --test support");
    }
}
