//! From method and path to a route: a trie over template segments, the most specific first.

use std::collections::HashMap;

use http::Method;

use super::template::{Segment, Template, decode};

/// Index of a route, as given to [`Matcher::insert`].
pub type RouteId = usize;

/// What a request's method and path lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The route, with the values of its path variables by field path.
    Found(RouteId, Vec<(String, String)>),
    /// The path is known, with these methods only (`HEAD` and `OPTIONS` included where they hold).
    MethodNotAllowed(Vec<Method>),
    /// No template has this path.
    NotFound,
    /// The path has an escape that is malformed or is not UTF-8.
    Malformed,
}

/// Two bindings claim the same method and path shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{method} {template} is bound twice")]
pub struct Conflict {
    /// The method of both bindings.
    pub method: Method,
    /// The later template as written.
    pub template: String,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<String, usize>,
    one: Option<usize>,
    rest: Option<usize>,
    ends: Vec<End>,
}

#[derive(Debug)]
struct End {
    verb: Option<String>,
    method: Method,
    route: RouteId,
}

/// A compiled set of templates.
///
/// Literals win over `*`, `*` over `**`, and a known `:verb` over a variable that would swallow it. Matching costs at most
/// nodes x segments steps, since `**` stands once in a template.
#[derive(Debug)]
pub struct Matcher {
    nodes: Vec<Node>,
    templates: HashMap<RouteId, Template>,
}

impl Default for Matcher {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], templates: HashMap::new() }
    }
}

impl Matcher {
    /// Adds a template for `method`, leading to `route`.
    pub fn insert(
        &mut self,
        method: Method,
        template: Template,
        source: &str,
        route: RouteId,
    ) -> Result<(), Conflict> {
        let mut at = 0;
        for segment in &template.segments {
            at = self.child(at, segment);
        }
        let ends = &mut self.nodes[at].ends;
        if ends.iter().any(|end| end.verb == template.verb && end.method == method) {
            return Err(Conflict { method, template: source.to_owned() });
        }
        ends.push(End { verb: template.verb.clone(), method, route });
        self.templates.insert(route, template);
        Ok(())
    }

    fn child(&mut self, at: usize, segment: &Segment) -> usize {
        let fresh = self.nodes.len();
        let node = &mut self.nodes[at];
        let child = match segment {
            Segment::Literal(word) => *node.literals.entry(word.clone()).or_insert(fresh),
            Segment::One => *node.one.get_or_insert(fresh),
            Segment::Rest => *node.rest.get_or_insert(fresh),
        };
        if child == fresh {
            self.nodes.push(Node::default());
        }
        child
    }

    /// Finds the route of a raw (still encoded) path; `HEAD` is looked up as `GET`.
    pub fn find(&self, method: &Method, path: &str) -> Outcome {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let Some(path) = path.strip_prefix('/') else { return Outcome::NotFound };
        // A known verb shadows a variable that would take the colon as part of its value.
        if let Some((path, verb)) = path.rsplit_once(':')
            && !verb.contains('/')
        {
            match self.search(method, path, Some(verb)) {
                Outcome::NotFound => {}
                outcome => return outcome,
            }
        }
        self.search(method, path, None)
    }

    fn search(&self, method: &Method, path: &str, verb: Option<&str>) -> Outcome {
        if path.split('/').any(|segment| decode(segment, false).is_none()) {
            return Outcome::Malformed;
        }
        let mut search = Search { nodes: &self.nodes, method, verb, others: Vec::new() };
        match search.walk(0, Some(path)) {
            Some(route) => match self.templates[&route].values(path) {
                Some(values) => Outcome::Found(
                    route,
                    values.into_iter().map(|(field, value)| (field.to_owned(), value)).collect(),
                ),
                None => Outcome::Malformed,
            },
            None if search.others.is_empty() => Outcome::NotFound,
            None => Outcome::MethodNotAllowed(allowed(search.others)),
        }
    }

    /// The methods of a path, for `OPTIONS`; `None` when no template has it.
    pub fn methods(&self, path: &str) -> Option<Vec<Method>> {
        // No route is bound to OPTIONS unless a service says so, and then it is answered by that service.
        match self.find(&Method::OPTIONS, path) {
            Outcome::MethodNotAllowed(methods) => Some(methods),
            _ => None,
        }
    }
}

/// `Allow` for the bound methods: in a fixed order, with `HEAD` beside `GET`, and `OPTIONS`.
fn allowed(mut methods: Vec<Method>) -> Vec<Method> {
    if methods.contains(&Method::GET) {
        methods.push(Method::HEAD);
    }
    methods.push(Method::OPTIONS);
    methods.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    methods.dedup();
    methods
}

struct Search<'a> {
    nodes: &'a [Node],
    method: &'a Method,
    verb: Option<&'a str>,
    others: Vec<Method>,
}

impl Search<'_> {
    /// Looks below a node for the rest of a path, `None` behind its last segment. Segments are cut off and decoded one
    /// by one: a list of them would be many times as large as a path of slashes.
    fn walk(&mut self, node: usize, path: Option<&str>) -> Option<RouteId> {
        let nodes = self.nodes;
        let node = &nodes[node];
        if let Some(path) = path {
            let (segment, behind) = cut(path);
            if let Some(&child) = node.literals.get(&*decode(segment, false)?)
                && let Some(route) = self.walk(child, behind)
            {
                return Some(route);
            }
            if let Some(child) = node.one
                && !segment.is_empty()
                && let Some(route) = self.walk(child, behind)
            {
                return Some(route);
            }
        } else {
            for end in node.ends.iter().filter(|end| end.verb.as_deref() == self.verb) {
                if end.method == *self.method {
                    return Some(end.route);
                }
                if !self.others.contains(&end.method) {
                    self.others.push(end.method.clone());
                }
            }
        }
        let child = node.rest?;
        // Taking the least first lets the literals behind `**` match as early as they can.
        let mut path = path;
        loop {
            if let Some(route) = self.walk(child, path) {
                return Some(route);
            }
            path = cut(path?).1;
        }
    }
}

/// The first segment of a path, and what is behind it.
fn cut(path: &str) -> (&str, Option<&str>) {
    path.split_once('/').map_or((path, None), |(segment, behind)| (segment, Some(behind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(routes: &[(Method, &str)]) -> Matcher {
        let mut matcher = Matcher::default();
        for (id, (method, template)) in routes.iter().enumerate() {
            matcher.insert(method.clone(), Template::parse(template).unwrap(), template, id).unwrap();
        }
        matcher
    }

    fn found(route: RouteId, values: &[(&str, &str)]) -> Outcome {
        Outcome::Found(route, values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn the_most_specific_template_wins() {
        let routes = matcher(&[
            (Method::GET, "/v1/{path=**}"),
            (Method::GET, "/v1/{name=books/*}"),
            (Method::GET, "/v1/books/best"),
            (Method::GET, "/v1/books"),
            (Method::GET, "/v1/{path=**}/rows/{row}"),
        ]);
        assert_eq!(routes.find(&Method::GET, "/v1/books/best"), found(2, &[]));
        assert_eq!(routes.find(&Method::GET, "/v1/books/7"), found(1, &[("name", "books/7")]));
        assert_eq!(routes.find(&Method::GET, "/v1/books"), found(3, &[]));
        assert_eq!(routes.find(&Method::GET, "/v1/books/7/x"), found(0, &[("path", "books/7/x")]));
        assert_eq!(routes.find(&Method::GET, "/v1"), found(0, &[("path", "")]));
        assert_eq!(routes.find(&Method::GET, "/v1/a/b/rows/3"), found(4, &[("path", "a/b"), ("row", "3")]));
        assert_eq!(routes.find(&Method::GET, "/v2"), Outcome::NotFound);
    }

    #[test]
    fn a_known_verb_shadows_the_variable_and_an_unknown_one_is_part_of_it() {
        let routes = matcher(&[
            (Method::GET, "/v1/{name=books/*}"),
            (Method::POST, "/v1/{name=books/*}:vote"),
            (Method::GET, "/v1/books:search"),
        ]);
        assert_eq!(routes.find(&Method::POST, "/v1/books/7:vote"), found(1, &[("name", "books/7")]));
        assert_eq!(routes.find(&Method::GET, "/v1/books:search"), found(2, &[]));
        assert_eq!(routes.find(&Method::GET, "/v1/books/a:b"), found(0, &[("name", "books/a:b")]));
        assert_eq!(
            routes.find(&Method::GET, "/v1/books/7:vote"),
            Outcome::MethodNotAllowed(vec![Method::OPTIONS, Method::POST])
        );
        assert_eq!(routes.find(&Method::GET, "/v1/books/7%3Avote"), found(0, &[("name", "books/7:vote")]));
    }

    #[test]
    fn other_methods_of_a_path_are_named() {
        let routes = matcher(&[
            (Method::GET, "/v1/{name}"),
            (Method::DELETE, "/v1/{id}"),
            (Method::POST, "/v1/fixed"),
        ]);
        let Outcome::MethodNotAllowed(allow) = routes.find(&Method::PUT, "/v1/fixed") else { panic!() };
        assert_eq!(allow, [Method::DELETE, Method::GET, Method::HEAD, Method::OPTIONS, Method::POST]);
        assert_eq!(routes.find(&Method::HEAD, "/v1/x"), found(0, &[("name", "x")]));
        assert_eq!(
            routes.methods("/v1/x"),
            Some(vec![Method::DELETE, Method::GET, Method::HEAD, Method::OPTIONS])
        );
        assert_eq!(routes.methods("/v2"), None);
    }

    #[test]
    fn empty_segments_and_trailing_slashes_are_not_found() {
        let routes = matcher(&[(Method::GET, "/v1/{name}"), (Method::GET, "/v1/{name}/x")]);
        for path in ["", "/", "/v1/", "/v1//x", "/v1/a/", "//v1/a"] {
            assert_eq!(routes.find(&Method::GET, path), Outcome::NotFound, "{path:?}");
        }
        assert_eq!(routes.find(&Method::GET, "/v1/%zz"), Outcome::Malformed);
        assert_eq!(routes.find(&Method::GET, "/%761/a"), found(0, &[("name", "a")]));
    }

    #[test]
    fn one_shape_is_bound_once() {
        let mut routes = matcher(&[(Method::GET, "/v1/{name}")]);
        let clash = routes.insert(Method::GET, Template::parse("/v1/{id=*}").unwrap(), "/v1/{id=*}", 1);
        assert_eq!(clash, Err(Conflict { method: Method::GET, template: "/v1/{id=*}".into() }));
    }
}
