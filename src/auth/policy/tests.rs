//! Who may do what, and what it costs to find out.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::{auth::Caller, config};

fn policy(access: &str) -> Arc<Policy> {
    let text = format!(
        "storage: {{rootDirectory: /d}}\nhttp:\n  auth: {{htpasswd: {{path: /x}}}}\n  accessControl: {access}\n"
    );
    let config = config::parse(Path::new("c.yaml"), &text).unwrap();
    Arc::new(config.access.unwrap().into())
}

fn subject(policy: &Policy, user: &str) -> Subject {
    Subject {
        groups: policy.groups(user),
        circumstances: None,
        user: Some(user.to_owned()).filter(|user| !user.is_empty()),
    }
}

/// The actions by their first letters.
fn may(policy: &Policy, user: &str, repository: &str) -> String {
    let (subject, name) = (subject(policy, user), RepoName::parse(repository).unwrap());
    let allowed = Action::ALL
        .into_iter()
        .filter(|action| policy.allows(&subject, &name, *action));
    allowed
        .filter_map(|action| action.as_str().chars().next())
        .collect()
}

#[test]
fn the_longest_pattern_counts_alone_and_admins_add_to_it() {
    let policy = policy(
        "{repositories: {
            '**': {defaultPolicy: [read], anonymousPolicy: [read]},
            'team/**': {policies: [{users: [ann], actions: [read, create, update]}, {groups: [ops], actions: [read, delete]}]},
            'team/alpha': {policies: [{users: [ann], actions: [create]}], defaultPolicy: [read]},
          }, adminPolicy: {users: [root], groups: [ops], actions: [read, create]},
          groups: {ops: {users: [bob, ann]}}}",
    );
    for (user, repository, expected) in [
        ("", "x", "r"),
        ("", "team/x", ""),
        ("", "team", ""),
        ("eve", "x", "r"),
        ("eve", "team/x", ""),
        ("eve", "team/alpha", "r"),
        ("ann", "team/x/y", "rcud"),
        ("ann", "team/alpha", "rc"),
        ("bob", "team/x", "rcd"),
        ("bob", "team/alpha", "rc"),
        ("root", "team/x", "rc"),
        ("root", "x", "rc"),
    ] {
        assert_eq!(
            may(&policy, user, repository),
            expected,
            "{user:?} in {repository}"
        );
    }
}

#[test]
fn an_access_control_without_rules_denies_everything() {
    for access in [
        "{repositories: {}}",
        "{repositories: }",
        "{metrics: {users: [root]}}",
        "{groups: {}}",
    ] {
        let policy = policy(access);
        assert_eq!(may(&policy, "ann", "x"), "", "{access}");
        assert!(!policy.knows_anonymous());
        assert!(!policy.shows_metrics(&subject(&policy, "ann")));
    }
    let admins = policy("{adminPolicy: {users: [root], actions: [read]}}");
    assert_eq!(
        (may(&admins, "ann", "x"), may(&admins, "root", "x")),
        ("".to_owned(), "r".to_owned())
    );
}

#[test]
fn metrics_have_a_policy_of_their_own() {
    let named = policy("{metrics: {users: [prometheus]}}");
    assert!(named.shows_metrics(&subject(&named, "prometheus")));
    assert!(!named.shows_metrics(&subject(&named, "ann")) && !named.shows_metrics(&subject(&named, "")));
    let open = policy("{metrics: {anonymousPolicy: [read]}}");
    assert!(open.shows_metrics(&subject(&open, "")) && open.shows_metrics(&subject(&open, "ann")));
}

proptest! {
    /// What is said to be all of it, or nothing, is.
    #[test]
    fn what_is_visible_is_what_may_be_read(
        rules in prop::collection::btree_map("[ab]|[ab]/\\*\\*|\\*|[ab]/\\*", (allowed(), any::<bool>()), 0..3),
        all in prop::option::of((allowed(), any::<bool>())),
        admin in prop::option::of(allowed()),
        user in "ann|ann|eve|",
        name in "[ab]|[ab]/[ab]|[ab]/[ab]/[ab]",
    ) {
        let all = all.map(|all| ("**".to_owned(), all));
        let admin = admin.unwrap_or_else(|| "{actions: []}".to_owned());
        let rules: Vec<String> = rules
            .into_iter()
            .chain(all)
            .map(|(pattern, (ann, for_all))| {
                let all = if for_all { "[read]" } else { "[]" };
                format!("'{pattern}': {{policies: [{ann}], anonymousPolicy: {all}}}")
            })
            .collect();
        let policy = policy(&format!("{{repositories: {{{}}}, adminPolicy: {admin}}}", rules.join(", ")));
        let (subject, name) = (asking(&policy, &user), RepoName::parse(&name).unwrap());
        let may_read = policy.allows(&subject, &name, Action::Read);
        prop_assert_eq!(policy.visible(&subject).includes(&name), may_read);
    }
}

/// What ann may do, mostly under a condition: one that holds, one that doesn't, one that does of some repositories.
fn allowed() -> impl Strategy<Value = String> {
    let action = prop_oneof![4 => Just("read"), 1 => Just("delete")];
    let condition = prop_oneof![
        Just(""),
        Just("req.userAgent == ''"),
        Just("req.tls.enabled"),
        Just("req.repository.startsWith('a')"),
    ];
    (action, condition).prop_map(|(action, condition)| {
        let conditions = match condition {
            "" => String::new(),
            condition => format!(", conditions: [{{expression: \"{condition}\"}}]"),
        };
        format!("{{users: [ann], actions: [{action}]{conditions}}}")
    })
}

/// Somebody whose request says nothing.
fn asking(policy: &Policy, user: &str) -> Subject {
    let caller = Caller {
        method: &http::Method::GET,
        uri: &http::Uri::from_static("/v2/_catalog"),
        headers: &http::HeaderMap::new(),
        certificates: None,
        client: [192, 0, 2, 1].into(),
        tls: None,
    };
    Subject {
        circumstances: Some(Arc::new(Circumstances::of(&caller, None))),
        ..subject(policy, user)
    }
}

#[test]
fn a_condition_that_is_about_no_repository_is_asked_once_for_a_list_of_them() {
    let one = "{expression: \"req.userAgent == ''\"}";
    let another = "{expression: \"req.client.ip.startsWith('192.')\"}";
    let each = "{expression: \"req.repository != 'team/77'\"}";
    let fails = "{expression: \"req.tls.enabled\"}";
    for (conditions, shown, asked) in [
        (format!("{one}, {another}"), 100, 2),
        (fails.to_owned(), 0, 1),
        // What is known doesn't make others be asked.
        (format!("{fails}, {each}"), 0, 1),
        (format!("{one}, {each}"), 99, 1 + 100),
    ] {
        let policy = policy(&format!(
            "{{repositories: {{'team/**': {{policies: [{{users: [ann], actions: [read, delete], conditions: [{conditions}]}}]}}}}}}"
        ));
        let subject = asking(&policy, "ann");
        let names: Vec<RepoName> = (0..100)
            .map(|n| RepoName::parse(&format!("team/{n}")).unwrap())
            .collect();
        let visible = policy.visible(&subject);
        let seen = names.iter().filter(|name| visible.includes(name)).count();
        let Policy::Rules(rules) = &*policy else {
            panic!("it has rules");
        };
        let count = || rules.asked.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!((seen, count()), (shown, asked), "{conditions}");
        let deletable = policy.places(&subject, Action::Delete);
        assert_eq!(names.iter().filter(|name| deletable(name)).count(), shown);
        assert_eq!(count(), 2 * asked, "{conditions}");
    }
}

#[test]
fn what_conditions_are_asked_with_is_put_together_once_for_each_repository() {
    let conditions: Vec<String> = (0..5)
        .map(|n| format!("{{expression: \"req.repository != 'team/x{n}'\"}}"))
        .collect();
    let conditions = conditions.join(", ");
    let policy = policy(&format!(
        "{{repositories: {{'team/**': {{policies: [{{users: [ann], actions: [read], conditions: [{conditions}]}}]}}}}}}"
    ));
    let visible = policy.visible(&asking(&policy, "ann"));
    for n in 0..10 {
        assert!(visible.includes(&RepoName::parse(&format!("team/{n}")).unwrap()));
    }
    let Policy::Rules(rules) = &*policy else {
        panic!("it has rules");
    };
    let count = |count: &std::sync::atomic::AtomicUsize| count.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((count(&rules.asked), count(&rules.bound)), (50, 10));
}
