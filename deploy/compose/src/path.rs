//! Where in a document a value stands: `services.web.ports[0].target`. Built on the stack while walking, so that a
//! walk without errors allocates nothing.

use std::fmt;

/// A path; each step borrows the one before.
#[derive(Debug, Clone, Copy)]
pub enum Path<'a> {
    /// The document.
    Root,
    /// A key of a mapping.
    Key(&'a Path<'a>, &'a str),
    /// An item of a list.
    Index(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    /// One key further.
    pub fn key<'b>(&'b self, key: &'b str) -> Path<'b>
    where
        'a: 'b,
    {
        Path::Key(self, key)
    }

    /// One item further.
    pub fn index<'b>(&'b self, index: usize) -> Path<'b>
    where
        'a: 'b,
    {
        Path::Index(self, index)
    }

    /// Whether the path has the shape of a pattern such as `services.*.ports`; `*` stands for one key or item.
    pub fn matches(&self, pattern: &str) -> bool {
        let mut here = *self;
        for want in pattern.rsplit('.') {
            let (parent, hit) = match here {
                Path::Root => return false,
                Path::Key(parent, key) => (parent, want == "*" || want == key),
                Path::Index(parent, _) => (parent, want == "*"),
            };
            if !hit {
                return false;
            }
            here = *parent;
        }
        matches!(here, Path::Root)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Key(Path::Root, key) => write!(f, "{key}"),
            Path::Key(parent, key) => write!(f, "{parent}.{key}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Path;

    #[test]
    fn a_pattern_matches_the_whole_path_and_names_may_hold_dots() {
        let services = Path::Root.key("services").to_string();
        assert_eq!(services, "services");
        let (root, a) = (Path::Root, "a.b");
        let one = root.key("services");
        let two = one.key(a);
        let three = two.key("ports");
        let four = three.index(2);
        assert!(three.matches("services.*.ports") && !two.matches("services.*.ports"));
        assert!(four.matches("services.*.ports.*") && !four.matches("services.*.ports"));
        assert_eq!(four.to_string(), "services.a.b.ports[2]");
    }
}
