//! `/v2/_portolan/retention`: plans of what retention would delete, for administrators. `POST` begins one, and `POST` to a plan carries it
//! on for a few seconds, until it is ready; `GET` tells of all plans, or what goes by one; `POST` to its `/apply` carries it out, for a few
//! seconds likewise. So who asks sees how far it is, and any member does the next piece.

use std::{sync::Arc, time::Duration};

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    super::exchange::Change,
    form::Form,
    reading::{Read, wrong_method},
};
use crate::{
    admission::Body,
    auth::Decision,
    config,
    http::{
        error::{self, Answer},
        reply::{Reply, next_page},
    },
    oci::{Action, Effect, Timestamp},
    registry::{PlanItem, PlanPage, Registry, RegistryError, RetentionPlan},
};

/// As the log calls it.
pub(in crate::http::front) const NAME: &str = "retention";

const PATH: &str = "/v2/_portolan/retention";
const APPLY: &str = "/apply";
/// The longest name of a plan.
const LONGEST: usize = 64;

/// What plans are made with.
#[derive(Clone)]
pub(in crate::http::front) struct Desk {
    pub(in crate::http::front) registry: Arc<Registry>,
    pub(in crate::http::front) policies: Arc<config::Retention>,
    /// How long one request carries a plan on.
    pub(in crate::http::front) step: Duration,
}

pub(in crate::http::front) struct Request {
    desk: Desk,
    errand: Errand,
}

/// What is asked for.
enum Errand {
    List,
    Begin,
    Show { id: String, after: Option<String> },
    CarryOn { id: String },
    Apply { id: String },
}

impl Desk {
    pub(super) fn read(&self, request: &http::Request<Body>) -> Read<Request> {
        let rest = request.uri().path().strip_prefix(PATH)?;
        if !rest.is_empty() && !rest.starts_with('/') {
            return None;
        }
        let errand = Errand::read(request.method(), rest, request.uri().query());
        let desk = self.clone();
        Some(errand.map(|errand| Request { desk, errand }))
    }
}

impl Errand {
    fn read(method: &Method, rest: &str, query: Option<&str>) -> Result<Self, Answer> {
        if rest.is_empty() {
            return match *method {
                Method::GET | Method::HEAD => Ok(Self::List),
                Method::POST => Ok(Self::Begin),
                _ => Err(wrong_method("GET, HEAD, POST", method)),
            };
        }
        let (id, is_to_apply) = match rest[1..].strip_suffix(APPLY) {
            Some(id) => (id, true),
            None => (&rest[1..], false),
        };
        let is_one = (1..=LONGEST).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_one {
            return Err(error::registry(&RegistryError::PlanUnknown));
        }
        let id = id.to_owned();
        match (method, is_to_apply) {
            (&Method::POST, true) => Ok(Self::Apply { id }),
            (_, true) => Err(wrong_method("POST", method)),
            (&Method::POST, false) => Ok(Self::CarryOn { id }),
            (&Method::GET | &Method::HEAD, false) => {
                let after = Form(query.unwrap_or_default()).first("last");
                Ok(Self::Show { id, after })
            }
            (_, false) => Err(wrong_method("GET, HEAD, POST", method)),
        }
    }
}

impl Request {
    /// What one must be allowed to do everywhere: to see what would go takes no more than to read.
    pub(super) fn takes(&self) -> Action {
        match self.errand {
            Errand::List | Errand::Begin | Errand::Show { .. } | Errand::CarryOn { .. } => Action::Read,
            Errand::Apply { .. } => Action::Delete,
        }
    }

    pub(super) fn effect(&self) -> Effect {
        match self.errand {
            Errand::List | Errand::Show { .. } => Effect::Safe,
            Errand::Begin | Errand::CarryOn { .. } | Errand::Apply { .. } => Effect::Unsafe,
        }
    }

    pub(super) fn change(&self) -> Option<Change> {
        match &self.errand {
            Errand::List | Errand::Show { .. } | Errand::CarryOn { .. } => None,
            Errand::Begin => Some(Change {
                what: "retention_plan",
                subject: None,
            }),
            Errand::Apply { id } => Some(Change {
                what: "retention_apply",
                subject: Some(id.clone()),
            }),
        }
    }

    pub(in crate::http::front) async fn answer(self, decision: Decision) -> Result<Response<Body>, Answer> {
        let Self { desk, errand } = self;
        let Desk {
            registry,
            policies,
            step,
        } = desk;
        let until = Instant::now() + step;
        let failed = |failure| error::registry(&failure);
        let reply = |status| {
            let reply = Reply::new(status).no_store();
            reply.header("x-content-type-options", "nosniff")
        };
        Ok(match errand {
            Errand::List => {
                let plans = registry.plans().await.map_err(failed)?;
                let plans: Vec<_> = plans.iter().map(told).collect();
                reply(StatusCode::OK).json(&json!({ "plans": plans }))
            }
            Errand::Begin => {
                let by = decision.identity.user.unwrap_or_default();
                let plan = registry.begin_plan(&by).await.map_err(failed)?;
                let place = format!("{PATH}/{}", plan.id);
                reply(StatusCode::CREATED).location(place).json(&told(&plan))
            }
            Errand::CarryOn { id } => {
                let plan = registry.carry_plan_on(&id, &policies, until).await;
                reply(StatusCode::OK).json(&told(&plan.map_err(failed)?))
            }
            Errand::Apply { id } => {
                let plan = registry.apply_plan(&id, &policies, until).await;
                reply(StatusCode::OK).json(&told(&plan.map_err(failed)?))
            }
            Errand::Show { id, after } => {
                let plan = registry.plan_of(&id).await.map_err(failed)?;
                let page = registry.plan_items(&id, after.as_deref()).await;
                let PlanPage { items, next } = page.map_err(failed)?;
                let mut body = told(&plan);
                body["items"] = items.iter().map(item).collect();
                let mut reply = reply(StatusCode::OK);
                if let Some(next) = next {
                    reply = reply.header("link", next_page(format!("{PATH}/{id}"), &[("last", &next)]));
                }
                reply.json(&body)
            }
        })
    }
}

fn told(plan: &RetentionPlan) -> Value {
    let mut told = json!({
        "plan": plan.id,
        "state": plan.stage.name(),
        "progress": plan.progress,
        "by": plan.by,
        "begun": Timestamp::from_ms(plan.begun_ms).to_string(),
        "ends": Timestamp::from_ms(plan.ends_ms).to_string(),
        "repositories": { "looked": plan.looked_at, "concerned": plan.concerned, "unread": plan.unread },
        "tags": plan.tags,
        "manifests": plan.manifests,
        "bytes": plan.bytes,
    });
    if let Some(applied) = plan.applied {
        told["applied"] = json!({
            "repositories": applied.repositories,
            "tags": applied.tags,
            "manifests": applied.manifests,
            "left": applied.left,
        });
    }
    told
}

fn item(item: &PlanItem) -> Value {
    let mut told = json!({ "repository": item.repository.as_str(), "why": item.why });
    for (key, value) in [
        ("tag", item.tag.as_ref().map(|tag| tag.as_str())),
        ("digest", item.digest.as_ref().map(|digest| digest.as_str())),
        ("left", item.left),
    ] {
        if let Some(value) = value {
            told[key] = json!(value);
        }
    }
    told
}
