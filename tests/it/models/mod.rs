//! Small models of the rules, all of whose states are visited: that the rules hold, and that each of them is needed.
//!
//! A model is the protocol without its bytes: what is written when, under which condition, and what may come late,
//! twice or never. It follows the code step by step (the names in comments are the code's), so that a change of the
//! code's order of things is a change here. A weakened model leaves out one rule; that it breaks shows that the model
//! sees what the rule is for.

mod checker;
mod collection;
mod ownership;
mod remembered;
mod steering;
mod uploads;
