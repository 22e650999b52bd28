//! From a question as it is sent to its answer: what it may cost, and how answers and refusals are written, as zot writes
//! them.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
};

use juniper::{
    Definition, EmptyMutation, EmptySubscription, GraphQLError, InputValue, OperationType, RootNode,
    Selection, Variables, parser::parse_document_source,
};
use serde_json::{Value, json};

use super::{Asker, Asking, Search, query::Query};

/// Bytes of a question.
const MAX_QUERY: usize = 64 << 10;
/// Fields of a question, those of a fragment once for each time that it is spread.
const MAX_FIELDS: usize = 1000;
/// How deep they are nested.
const MAX_DEPTH: usize = 20;
/// How many of them ask the stores.
const MAX_QUESTIONS: usize = 10;

/// The schema.
pub(super) type Root = RootNode<Query, EmptyMutation<Asking>, EmptySubscription<Asking>>;

pub(super) fn root() -> Root {
    RootNode::new(Query, EmptyMutation::new(), EmptySubscription::new())
}

/// A question, as GraphQL over HTTP sends it.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The document.
    pub query: String,
    /// Which of its operations.
    pub operation: Option<String>,
    /// Values of its variables: a JSON object.
    pub variables: Option<Value>,
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Whether it could be asked so: only then it has been.
    pub is_valid: bool,
    /// As GraphQL writes it.
    pub body: Value,
    /// Something is left out: the stores weren't seen in time, or there is more than is looked through.
    pub is_partial: bool,
}

impl Answer {
    fn refused(errors: Value, code: &str) -> Self {
        let mut errors = errors;
        for error in errors.as_array_mut().into_iter().flatten() {
            error["extensions"] = json!({ "code": code });
        }
        Self {
            is_valid: false,
            body: json!({ "errors": errors, "data": null }),
            is_partial: false,
        }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::refused(
            json!([{ "message": message.into() }]),
            "GRAPHQL_VALIDATION_FAILED",
        )
    }
}

impl Search {
    /// What `asker` may know.
    pub async fn answer(self: &Arc<Self>, asker: Asker, question: &Question) -> Answer {
        let Question {
            query,
            operation,
            variables,
        } = question;
        if query.trim().is_empty() {
            return Answer::invalid("no operation provided");
        }
        if query.len() > MAX_QUERY {
            return Answer::invalid(format!("a query has at most {MAX_QUERY} bytes"));
        }
        if let Err(refused) = self.check(query) {
            return refused;
        }
        let variables = match variables.clone().map(serde_json::from_value::<InputValue>) {
            None => Variables::new(),
            Some(Ok(variables)) => match variables.to_object_value() {
                Some(object) => object
                    .into_iter()
                    .map(|(name, value)| (name.into(), value.clone()))
                    .collect(),
                None if variables.is_null() => Variables::new(),
                None => return Answer::invalid("variables are expected in an object"),
            },
            Some(Err(_)) => return Answer::invalid("variables are expected in an object"),
        };
        let asking = Asking {
            search: self.clone(),
            asker,
            is_partial: AtomicBool::new(false),
        };
        let operation = operation.as_deref().filter(|name| !name.is_empty());
        let answered = juniper::execute(query, operation, &self.root, &variables, &asking).await;
        let is_partial = asking.is_partial.into_inner();
        match answered {
            Err(error) => refused(&error),
            Ok((data, errors)) => {
                let mut body = json!({ "data": data });
                if !errors.is_empty() {
                    body["errors"] = json!(errors);
                }
                if is_partial {
                    body["extensions"] = json!({ "partial": true });
                }
                Answer {
                    is_valid: true,
                    body,
                    is_partial,
                }
            }
        }
    }

    /// What the question would cost, before anything is done for it.
    fn check(&self, query: &str) -> Result<(), Answer> {
        let document = parse_document_source(query, &self.root.schema)
            .map_err(|error| refused(&GraphQLError::ParseError(error)))?;
        let fragments: HashMap<&str, &[Selection<'_>]> = document
            .iter()
            .filter_map(|definition| match definition {
                Definition::Fragment(fragment) => {
                    Some((fragment.item.name.item, &*fragment.item.selection_set))
                }
                Definition::Operation(_) => None,
            })
            .collect();
        for definition in &document {
            let Definition::Operation(operation) = definition else {
                continue;
            };
            match operation.item.operation_type {
                OperationType::Query => {}
                // juniper panics at a mutation where there are none.
                OperationType::Mutation | OperationType::Subscription => {
                    return Err(Answer::invalid("the schema has queries only"));
                }
            }
            let mut cost = Cost {
                fragments: &fragments,
                fields: 0,
                questions: 0,
            };
            cost.of(&operation.item.selection_set, Level { fields: 0, nested: 0 })
                .map_err(Answer::invalid)?;
        }
        Ok(())
    }
}

/// What is counted of an operation.
struct Cost<'a> {
    fragments: &'a HashMap<&'a str, &'a [Selection<'a>]>,
    fields: usize,
    questions: usize,
}

/// How deep a selection stands: in fields, and in fragments, too.
#[derive(Clone, Copy)]
struct Level {
    fields: usize,
    nested: usize,
}

impl Cost<'_> {
    fn of(&mut self, selections: &[Selection<'_>], at: Level) -> Result<(), String> {
        // Fragments in circles end here, too.
        if at.fields > MAX_DEPTH || at.nested > 2 * MAX_DEPTH {
            return Err(format!("a query is at most {MAX_DEPTH} fields deep"));
        }
        let nested = at.nested + 1;
        for selection in selections {
            match selection {
                Selection::Field(field) => {
                    self.fields += 1;
                    let is_question = at.fields == 0 && !field.item.name.item.starts_with("__");
                    self.questions += usize::from(is_question);
                    if self.fields > MAX_FIELDS {
                        return Err(format!("a query has at most {MAX_FIELDS} fields"));
                    }
                    if self.questions > MAX_QUESTIONS {
                        return Err(format!("a query asks at most {MAX_QUESTIONS} questions"));
                    }
                    let fields = at.fields + 1;
                    let below = field.item.selection_set.as_deref().unwrap_or_default();
                    self.of(below, Level { fields, nested })?;
                }
                Selection::FragmentSpread(spread) => {
                    // One that spreads nothing costs, too.
                    self.fields += 1;
                    if self.fields > MAX_FIELDS {
                        return Err(format!("a query has at most {MAX_FIELDS} fields"));
                    }
                    let below = self.fragments.get(spread.item.name.item).copied();
                    self.of(below.unwrap_or_default(), Level { nested, ..at })?;
                }
                Selection::InlineFragment(fragment) => {
                    self.of(&fragment.item.selection_set, Level { nested, ..at })?;
                }
            }
        }
        Ok(())
    }
}

fn refused(error: &GraphQLError) -> Answer {
    let code = match error {
        GraphQLError::ParseError(_) => "GRAPHQL_PARSE_FAILED",
        GraphQLError::ValidationError(_)
        | GraphQLError::NoOperationProvided
        | GraphQLError::MultipleOperationsProvided
        | GraphQLError::UnknownOperationName
        | GraphQLError::IsSubscription
        | GraphQLError::NotSubscription => "GRAPHQL_VALIDATION_FAILED",
    };
    Answer::refused(json!(error), code)
}
