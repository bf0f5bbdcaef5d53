//! A page as a browser's parser makes it of the text that was sent, and a few selectors of CSS to look into it: names, `#id`,
//! `.class`, `[name]`, `[name=value]`, `[name^=value]`, `:not(…)` with one of these, descendants, and lists with commas.

use html5ever::tendril::TendrilSink;
use html5ever::{ParseOpts, parse_document};
use markup5ever_rcdom::{Handle, NodeData, RcDom};

/// A page.
pub struct Page {
    /// Elements and texts, in their order.
    nodes: Vec<Node>,
}

struct Node {
    parent: Option<usize>,
    /// After its last descendant.
    end: usize,
    what: What,
}

enum What {
    Element { name: String, attributes: Vec<(String, String)> },
    Text(String),
}

/// An element of a page.
#[derive(Clone, Copy)]
pub struct Element<'p> {
    page: &'p Page,
    at: usize,
}

impl Page {
    pub fn parse(text: &str) -> Self {
        let dom = parse_document(RcDom::default(), ParseOpts::default()).one(text);
        let mut page = Self { nodes: Vec::new() };
        page.take(&dom.document, None);
        page
    }

    fn take(&mut self, handle: &Handle, parent: Option<usize>) {
        let what = match &handle.data {
            NodeData::Element { name, attrs, .. } => {
                let attributes =
                    attrs.borrow().iter().map(|a| (a.name.local.to_string(), a.value.to_string())).collect();
                Some(What::Element { name: name.local.to_string(), attributes })
            }
            NodeData::Text { contents } => Some(What::Text(contents.borrow().to_string())),
            _ => None,
        };
        let own = what.map(|what| {
            self.nodes.push(Node { parent, end: 0, what });
            self.nodes.len() - 1
        });
        handle.children.borrow().iter().for_each(|child| self.take(child, own.or(parent)));
        if let Some(own) = own {
            self.nodes[own].end = self.nodes.len();
        }
    }

    /// Elements that one of the selectors fits, in their order.
    pub fn all(&self, selectors: &str) -> Vec<Element<'_>> {
        let elements = (0..self.nodes.len()).map(|at| Element { page: self, at });
        let elements = elements.filter(|element| matches!(self.nodes[element.at].what, What::Element { .. }));
        elements.filter(|element| selectors.split(',').any(|selector| element.fits(selector.trim()))).collect()
    }

    /// The one element that fits.
    pub fn one(&self, selectors: &str) -> Element<'_> {
        let found = self.all(selectors);
        let [element] = found.as_slice() else { panic!("{} of {selectors} in {}", found.len(), self.text("body")) };
        *element
    }

    /// Texts of the elements that fit, without needless blanks.
    pub fn text(&self, selectors: &str) -> String {
        let texts = self.all(selectors).into_iter().map(Element::text);
        texts.collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl<'p> Element<'p> {
    pub fn name(self) -> &'p str {
        match &self.page.nodes[self.at].what {
            What::Element { name, .. } => name,
            What::Text(_) => "",
        }
    }

    pub fn attributes(self) -> impl Iterator<Item = (&'p str, &'p str)> {
        let attributes = match &self.page.nodes[self.at].what {
            What::Element { attributes, .. } => attributes.as_slice(),
            What::Text(_) => &[],
        };
        attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn attribute(self, wanted: &str) -> Option<&'p str> {
        self.attributes().find(|(name, _)| *name == wanted).map(|(_, value)| value)
    }

    /// All text in it.
    pub fn text(self) -> String {
        let inside = &self.page.nodes[self.at..self.page.nodes[self.at].end];
        let texts = inside.iter().filter_map(|node| match &node.what {
            What::Text(text) => Some(text.as_str()),
            What::Element { .. } => None,
        });
        texts.collect()
    }

    /// The elements that it is in, the nearest first.
    pub fn ancestors(self) -> impl Iterator<Item = Element<'p>> {
        std::iter::successors(self.parent(), |element| element.parent())
    }

    fn parent(self) -> Option<Self> {
        self.page.nodes[self.at].parent.map(|at| Self { at, ..self })
    }

    /// Each part fits an element that is in one of the part before, the last one this.
    fn fits(self, selector: &str) -> bool {
        let mut parts = selector.split_whitespace().rev();
        let last = parts.next().expect("a selector");
        let mut around = self.ancestors();
        self.is(last) && parts.all(|part| around.any(|element| element.is(part)))
    }

    fn is(self, part: &str) -> bool {
        let end = part.find(['#', '.', '[', ':']).unwrap_or(part.len());
        let (name, mut rest) = part.split_at(end);
        if !name.is_empty() && name != "*" && name != self.name() {
            return false;
        }
        while !rest.is_empty() {
            let (one, after) = condition(rest);
            if !self.has(one) {
                return false;
            }
            rest = after;
        }
        true
    }

    fn has(self, condition: &str) -> bool {
        if let Some(inner) = condition.strip_prefix(":not(").and_then(|inner| inner.strip_suffix(')')) {
            return !self.is(inner);
        }
        if let Some(id) = condition.strip_prefix('#') {
            return self.attribute("id") == Some(id);
        }
        if let Some(class) = condition.strip_prefix('.') {
            return self.attribute("class").is_some_and(|classes| classes.split_whitespace().any(|one| one == class));
        }
        let inner = condition.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        let inner = inner.unwrap_or_else(|| panic!("{condition:?} is no selector that is known here"));
        let unquoted = |value: &str| value.trim_matches(['\'', '"']).to_owned();
        match inner.split_once("^=").map(|pair| (true, pair)).or(inner.split_once('=').map(|pair| (false, pair))) {
            None => self.attribute(inner).is_some(),
            Some((begins, (name, value))) => self.attribute(name).is_some_and(|found| match begins {
                true => found.starts_with(&unquoted(value)),
                false => found == unquoted(value),
            }),
        }
    }
}

/// The first condition, and what comes after it.
fn condition(text: &str) -> (&str, &str) {
    let end = match &text[..1] {
        "[" => text.find(']').expect("the end of an attribute") + 1,
        ":" => text.find(')').expect("the end of :not") + 1,
        _ => text[1..].find(['#', '.', '[', ':']).map_or(text.len(), |at| at + 1),
    };
    text.split_at(end)
}
