use super::*;

fn get<'a>(node: &'a Node, path: &[&str]) -> &'a Node {
    path.iter().fold(node, |node, name| match &node.value {
        Value::Object(members) => &members.iter().find(|(key, _)| key == name).unwrap().1,
        other => panic!("{other:?} has no {name}"),
    })
}

#[test]
fn both_notations_give_the_same_values_and_lines() {
    let json = parse(
        "{\n \"a\": {\n  \"b\": [\n   1,\n   \"x\"],\n  \"c\": true\n }, \"d\": null\n}",
        Notation::Json,
    )
    .unwrap();
    let yaml = parse(
        "# comment\na:\n  b:\n    - 1\n    - x\n  c: true\nd:\n",
        Notation::Yaml,
    )
    .unwrap();
    for tree in [&json, &yaml] {
        let Value::List(list) = &get(tree, &["a", "b"]).value else {
            panic!()
        };
        assert_eq!(list[0].value, Value::Int(1));
        assert_eq!(list[1].value, Value::Str("x".into()));
        assert_eq!(get(tree, &["a", "c"]).value, Value::Bool(true));
        assert_eq!(get(tree, &["d"]).value, Value::Null);
        assert_eq!(get(tree, &["a"]).line, 2);
        assert_eq!(get(tree, &["a", "b"]).line, 3);
        assert_eq!(get(tree, &["a", "c"]).line, 6);
        assert_eq!(list[1].line, 5);
    }
}

#[test]
fn plain_scalars_follow_the_core_schema() {
    let tree = parse(
        "a: yes\nb: 0777\nc: \"9000\"\nd: 9000\ne: 1.5\nf: 1h\ng: !!str 5\nh: .5x",
        Notation::Yaml,
    )
    .unwrap();
    assert_eq!(get(&tree, &["a"]).value, Value::Str("yes".into()));
    assert_eq!(get(&tree, &["b"]).value, Value::Str("0777".into()));
    assert_eq!(get(&tree, &["c"]).value, Value::Str("9000".into()));
    assert_eq!(get(&tree, &["d"]).value, Value::Int(9000));
    assert_eq!(get(&tree, &["e"]).value, Value::Float(1.5));
    assert_eq!(get(&tree, &["f"]).value, Value::Str("1h".into()));
    assert_eq!(get(&tree, &["g"]).value, Value::Str("5".into()));
    assert_eq!(get(&tree, &["h"]).value, Value::Str(".5x".into()));
}

#[test]
fn faults_of_syntax_carry_the_line() {
    let fault = parse("{\n \"a\": 1,\n}", Notation::Json).unwrap_err();
    assert_eq!((fault.kind, fault.line), (FaultKind::Syntax, Some(3)));
    assert!(!fault.problem.contains("at line"), "{}", fault.problem);
    let fault = parse("a: 1\nb: [1, 2\nc: 3\n", Notation::Yaml).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Syntax);
    assert!(
        fault.line.is_some() && !fault.problem.contains("at byte"),
        "{fault:?}"
    );
    assert!(parse("{} {}", Notation::Json).is_err());
    assert!(parse("a: 1\n---\nb: 2\n", Notation::Yaml).is_err());
}

#[test]
fn deep_and_exploding_input_is_refused() {
    for opening in ["[", "{\"a\":", "- "] {
        let deep = opening.repeat(200_000);
        assert!(parse(&deep, Notation::Json).is_err());
        assert!(parse(&deep, Notation::Yaml).is_err());
    }
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let list = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{list}]\n"));
    }
    let fault = parse(&bomb, Notation::Yaml).unwrap_err();
    assert!(fault.problem.contains("alias"), "{fault:?}");
}

#[test]
fn aliases_repeat_the_anchored_value() {
    let tree = parse("a: &x {b: 1}\nc: *x\n", Notation::Yaml).unwrap();
    assert_eq!(get(&tree, &["c", "b"]).value, Value::Int(1));
    assert_eq!(get(&tree, &["c"]).line, 2);
}

#[test]
fn merge_keys_take_over_what_an_object_doesnt_say_itself() {
    let tree = parse(
        "a: &a {x: 1, y: 1}\nb: &b {Y: 2, z: 2}\nc:\n  <<: *a\n  x: 3\nd:\n  x: 4\n  <<: [*a, *b]\ne: {'<<': *a}\n",
        Notation::Yaml,
    )
    .unwrap();
    let int = |path: &[&str]| get(&tree, path).value.clone();
    assert_eq!(
        (int(&["c", "x"]), int(&["c", "y"])),
        (Value::Int(3), Value::Int(1))
    );
    assert_eq!(
        (int(&["d", "x"]), int(&["d", "y"]), int(&["d", "z"])),
        (Value::Int(4), Value::Int(1), Value::Int(2))
    );
    assert_eq!(get(&tree, &["c", "y"]).line, 1, "a fault is where it was written");
    assert_eq!(int(&["e", "<<", "x"]), Value::Int(1), "in quotes it is a name");
    for wrong in ["a: {<<: 1}", "a: {<<: [{b: 1}, 2]}", "a: {<<: }"] {
        let fault = parse(wrong, Notation::Yaml).unwrap_err();
        assert!(fault.problem.starts_with("<< takes over"), "{fault:?}");
    }
}

#[test]
fn the_notation_is_known_by_extension_or_content() {
    assert_eq!(Notation::of(Some("JSON"), ""), Notation::Json);
    assert_eq!(Notation::of(Some("yml"), "{}"), Notation::Yaml);
    assert_eq!(Notation::of(None, "\u{feff} {}"), Notation::Json);
    assert_eq!(Notation::of(Some("conf"), "http:"), Notation::Yaml);
}
