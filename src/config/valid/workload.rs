//! `http.auth.bearer.oidc`: issuers of tokens for workloads.

use super::{
    nodes::{elements, lined_strings, member, required, text},
    openid::issuer_problem,
};
use crate::config::{
    access::{ClaimMapping, Workload},
    check::Checked,
    expression::{Expression, Gives, Shape},
    fault::FaultKind,
    tree::Node,
};

const ISSUERS: &str = "http.auth.bearer.oidc";

/// Who a token's bearer is where nothing is said: unlike anybody's elsewhere.
const DEFAULT_USERNAME: &str = "claims.iss + '/' + claims.sub";

pub(super) fn workloads(c: &mut Checked) -> Vec<Workload> {
    let elements = c.elements(ISSUERS);
    let numbered = elements.iter().enumerate();
    numbered
        .filter_map(|(i, node)| workload(c, &format!("{ISSUERS}[{i}]"), node))
        .collect()
}

fn workload(c: &mut Checked, path: &str, node: &Node) -> Option<Workload> {
    let issuer = required(
        c,
        path,
        node,
        "issuer",
        "the issuer's name, as it stands in tokens (iss)",
    );
    if let Some((issuer, line)) = &issuer
        && let Some(problem) = issuer_problem(issuer)
    {
        c.refuse_at(FaultKind::Value, &format!("{path}.issuer"), *line, problem);
    }
    let audiences: Vec<String> = lined_strings(member(node, "audiences"))
        .into_iter()
        .map(|(audience, _)| audience.trim().to_owned())
        .collect();
    if audiences.is_empty() || audiences.iter().any(String::is_empty) {
        let problem =
            "is required: whom tokens must be for, or those for anybody else would be good here".to_owned();
        c.refuse_at(
            FaultKind::Missing,
            &format!("{path}.audiences"),
            node.line,
            problem,
        );
    }
    let mapping = mapping(c, &format!("{path}.claimMapping"), member(node, "claimMapping"));
    Some(Workload {
        issuer: issuer?.0,
        audiences,
        authority: text(node, "certificateAuthorityFile").map(|(file, _)| file.into()),
        mapping: mapping?,
    })
}

fn mapping(c: &mut Checked, path: &str, node: Option<&Node>) -> Option<ClaimMapping> {
    let part = |name| node.and_then(|node| member(node, name));
    let mut variables = Vec::new();
    for (i, node) in elements(part("variables")).iter().enumerate() {
        let path = format!("{path}.variables[{i}]");
        let name = required(c, &path, node, "name", "by which vars has it");
        let expression = required(c, &path, node, "expression", "what it stands for");
        if let (Some((name, _)), Some(expression)) = (name, expression)
            && let Some(expression) = parsed(c, &format!("{path}.expression"), &expression, Gives::Anything)
        {
            variables.push((name, expression));
        }
    }
    let mut validations = Vec::new();
    for (i, node) in elements(part("validations")).iter().enumerate() {
        let path = format!("{path}.validations[{i}]");
        let message = required(c, &path, node, "message", "what is said where it doesn't hold");
        let expression = required(c, &path, node, "expression", "what must hold");
        if let (Some((message, _)), Some(expression)) = (message, expression)
            && let Some(expression) = parsed(c, &format!("{path}.expression"), &expression, Gives::Bool)
        {
            validations.push((expression, message));
        }
    }
    let named = |name: &str| node.and_then(|node| text(node, name));
    let username = named("username").unwrap_or((DEFAULT_USERNAME.to_owned(), 0));
    let username = parsed(c, &format!("{path}.username"), &username, Gives::Text);
    let groups = named("groups").map(|groups| parsed(c, &format!("{path}.groups"), &groups, Gives::Texts));
    Some(ClaimMapping {
        variables,
        validations,
        username: username?,
        groups: groups.flatten(),
    })
}

fn parsed(c: &mut Checked, path: &str, (text, line): &(String, u32), gives: Gives) -> Option<Expression> {
    let names = [("claims", Shape::Anything), ("vars", Shape::Anything)];
    Expression::parse(text, &names, gives)
        .map_err(|problem| c.refuse_at(FaultKind::Value, path, *line, problem))
        .ok()
}
