//! Tables and properties of reference parsing.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const HEX: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

#[test]
fn normal_and_familiar_forms() {
    let digest = format!("sha256:{HEX}");
    let table = [
        ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("nginx:1.25", "docker.io/library/nginx:1.25", "nginx:1.25"),
        ("me/app", "docker.io/me/app:latest", "me/app:latest"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("docker.io/library/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
        ("localhost:5000/a:b", "localhost:5000/a:b", "localhost:5000/a:b"),
        ("host:5000/a/b/c", "host:5000/a/b/c:latest", "host:5000/a/b/c:latest"),
        ("ghcr.io/x/y_z__w-v.u:T.1-_", "ghcr.io/x/y_z__w-v.u:T.1-_", "ghcr.io/x/y_z__w-v.u:T.1-_"),
        ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
        ("Host/a", "Host/a:latest", "Host/a:latest"),
        ("library/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
    ];
    for (text, normal, familiar) in table {
        let parsed = Reference::parse(text).unwrap();
        assert_eq!(parsed.to_string(), normal, "{text}");
        assert_eq!(parsed.familiar(), familiar, "{text}");
    }
    let pinned = Reference::parse(&format!("nginx@{digest}")).unwrap();
    assert_eq!(pinned.to_string(), format!("docker.io/library/nginx@{digest}"));
    assert_eq!(pinned.tag(), None);
    let both = Reference::parse(&format!("h:1/nginx:1@{digest}")).unwrap();
    assert_eq!(both.to_string(), format!("h:1/nginx:1@{digest}"));
    // A path on Docker Hub that would be taken for a host keeps its registry.
    assert_eq!(Reference::parse("docker.io/a.b/c:1").unwrap().familiar(), "docker.io/a.b/c:1");
    assert_eq!((both.tag(), both.digest()), (Some("1"), Some(digest.parse().unwrap())));
}

#[test]
fn each_broken_rule_is_named() {
    type Expected = fn(&ReferenceProblem) -> bool;
    let table: [(&str, Expected); 12] = [
        ("", |p| *p == ReferenceProblem::Empty),
        (HEX, |p| *p == ReferenceProblem::LooksLikeId),
        ("Nginx", |p| *p == ReferenceProblem::UpperCase),
        ("nginx:", |p| matches!(p, ReferenceProblem::Tag(_))),
        ("nginx:-x", |p| matches!(p, ReferenceProblem::Tag(_))),
        ("nginx@sha256:12", |p| matches!(p, ReferenceProblem::Digest(_))),
        ("a//b", |p| matches!(p, ReferenceProblem::Component(_))),
        ("a/../b", |p| matches!(p, ReferenceProblem::Component(_))),
        ("a___b", |p| matches!(p, ReferenceProblem::Component(_))),
        ("-a", |p| matches!(p, ReferenceProblem::Component(_))),
        ("ho st.x/a", |p| matches!(p, ReferenceProblem::Host(_))),
        ("h:x/a", |p| matches!(p, ReferenceProblem::Host(_))),
    ];
    for (text, expected) in table {
        let error = Reference::parse(text).unwrap_err();
        assert!(expected(&error.problem), "{text:?} gave {:?}", error.problem);
    }
    let long = format!("h.io/{}", "a".repeat(260));
    assert_eq!(Reference::parse(&long).unwrap_err().problem, ReferenceProblem::TooLong);
    let tag = format!("a:{}", "t".repeat(129));
    assert!(matches!(Reference::parse(&tag).unwrap_err().problem, ReferenceProblem::Tag(_)));
}

proptest! {
    #[test]
    fn any_text_parses_or_fails_without_panic(text in ".{0,80}") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference);
        }
    }

    #[test]
    fn both_forms_lead_back_to_the_same_reference(
        host in prop::option::of("(localhost|[a-z]{1,8}\\.[a-z]{2,3})(:[0-9]{2,5})?"),
        path in "[a-z0-9]{1,6}((\\.|_|__|-{1,3})[a-z0-9]{1,4})?(/[a-z0-9]{1,6}){0,2}",
        tag in prop::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
        digest in prop::option::of("[0-9a-f]{64}"),
    ) {
        let mut text = host.clone().map(|h| h + "/").unwrap_or_default() + &path;
        if let Some(tag) = &tag { text = format!("{text}:{tag}"); }
        if let Some(digest) = &digest { text = format!("{text}@sha256:{digest}"); }
        let parsed = Reference::parse(&text).unwrap();
        prop_assert_eq!(&Reference::parse(&parsed.to_string()).unwrap(), &parsed);
        prop_assert_eq!(&Reference::parse(&parsed.familiar()).unwrap(), &parsed);
        prop_assert!(parsed.tag().is_some() || parsed.digest().is_some());
        if let Some(host) = &host { prop_assert_eq!(parsed.registry(), host); }
    }
}
