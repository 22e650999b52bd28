//! How a surface reads a request.

use http::{Method, Request};

use crate::{
    admission::Body,
    http::error::{self, Answer, FrontError},
    oci::RouteError,
};

/// What a surface says to a request: `None`, that it isn't its own.
pub(super) type Read<T> = Option<Result<T, Answer>>;

/// That the endpoint knows other methods.
pub(super) fn wrong_method(allow: &'static str, method: &Method) -> Answer {
    error::front(&FrontError::Route(RouteError::MethodNotAllowed { allow }), method)
}

/// The method of a request for something that can only be looked at.
pub(super) fn only_read(request: &Request<Body>) -> Result<(), Answer> {
    match *request.method() {
        Method::GET | Method::HEAD => Ok(()),
        ref other => Err(wrong_method("GET, HEAD", other)),
    }
}
