//! Whether two runs of a test heard the same: status, every header, every byte, except what must differ.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::support::{
    client::{Answer, Request},
    content::sha256,
};

/// A request and its answer as they were.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) method: http::Method,
    pub(crate) target: String,
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Exchange {
    pub(crate) fn new(request: &Request, answer: &Answer) -> Self {
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = answer
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), text(value)));
        Self {
            method: request.method.clone(),
            target: request.target.clone(),
            status: answer.status,
            headers: headers.collect(),
            body: answer.body.to_vec(),
        }
    }
}

impl Exchange {
    /// Takes away what a balancer adds, by which it knows the client's next request.
    pub(super) fn without_cookie(&mut self) {
        self.headers.retain(|(name, _)| name != "set-cookie");
    }

    fn is_octets(&self) -> bool {
        self.headers
            .iter()
            .any(|(name, value)| name == "content-type" && value == "application/octet-stream")
    }
}

/// Writes down exchanges with everything that must differ between two runs replaced by what it is: repositories by
/// their kind, upload ids and digests of a run's own content by the order in which they came up.
pub(crate) struct Transcript {
    // What is written for what, the longest first.
    names: Vec<(String, String)>,
    uploads: BTreeMap<String, usize>,
    digests: BTreeMap<String, usize>,
}

impl Transcript {
    /// One text for each exchange of a run with these repositories and their kinds.
    pub(crate) fn write(repositories: &BTreeMap<String, String>, exchanges: &[Exchange]) -> Vec<String> {
        let mut names: Vec<(String, String)> = repositories
            .iter()
            // As they are, and as a query has them.
            .flat_map(|(name, kind)| {
                [name.clone(), name.replace('/', "%2F")].map(|name| (name, format!("({kind})")))
            })
            .collect();
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        let mut transcript = Self {
            names,
            uploads: BTreeMap::new(),
            digests: BTreeMap::new(),
        };
        exchanges
            .iter()
            .map(|exchange| transcript.exchange(exchange))
            .collect()
    }

    fn exchange(&mut self, exchange: &Exchange) -> String {
        let mut text = format!("{} {}\n", exchange.method, self.neutral(&exchange.target));
        let _ = writeln!(text, "{}", exchange.status);
        let mut headers: Vec<(String, String)> = exchange
            .headers
            .iter()
            // Of the connection, not of the answer.
            .filter(|(name, _)| !matches!(name.as_str(), "connection" | "keep-alive" | "transfer-encoding"))
            .map(|(name, value)| (name.clone(), self.header(name, value)))
            .collect();
        // Names in any order, values of one name in theirs.
        headers.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, value) in headers {
            let _ = writeln!(text, "{name}: {value}");
        }
        match std::str::from_utf8(&exchange.body) {
            // Content of a run's own, which the test compares with what it pushed.
            _ if exchange.is_octets() => text + &format!("({} bytes)", exchange.body.len()),
            Ok(body) if body.len() < 100_000 => text + &self.neutral(body),
            _ => {
                let digest = self.neutral(&sha256(&exchange.body));
                text + &format!("({} bytes, {digest})", exchange.body.len())
            }
        }
    }

    fn header(&mut self, name: &str, value: &str) -> String {
        match name {
            "date" => "(a time)".to_owned(),
            "x-request-id" => "(an id)".to_owned(),
            "docker-upload-uuid" => self.upload(value),
            "server-timing" => timing(value),
            _ => self.neutral(value),
        }
    }

    fn upload(&mut self, id: &str) -> String {
        let next = self.uploads.len() + 1;
        format!("(upload {})", self.uploads.entry(id.to_owned()).or_insert(next))
    }

    fn neutral(&mut self, text: &str) -> String {
        let text = self.without_digests(text);
        let text = self.without_names(&text);
        let text = self.without_uploads(&text);
        without_times(&text)
    }

    /// `sha256:...` and `sha512:...`
    fn without_digests(&mut self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("sha256").into_iter().chain(rest.find("sha512")).min() {
            let (algorithm, after) = rest[at..].split_at("sha256".len());
            // As it is, or as a query has it, or a path that escapes more than it need.
            let separator = [":", "%3A", "%3a"]
                .into_iter()
                .find(|separator| after.starts_with(separator))
                .unwrap_or("");
            let hex: String = after[separator.len()..]
                .chars()
                .take_while(|c| c.is_ascii_hexdigit())
                .collect();
            let length = if algorithm == "sha256" { 64 } else { 128 };
            out += &rest[..at];
            if !separator.is_empty() && hex.len() == length {
                let next = self.digests.len() + 1;
                let number = self.digests.entry(format!("{algorithm}:{hex}")).or_insert(next);
                let _ = write!(out, "({algorithm}{separator}{number})");
                rest = &after[separator.len() + length..];
            } else {
                out += algorithm;
                rest = after;
            }
        }
        out + rest
    }

    /// `.../blobs/uploads/<id>`
    fn without_uploads(&mut self, text: &str) -> String {
        const BEFORE: &str = "/blobs/uploads/";
        let Some(at) = text.find(BEFORE) else {
            return text.to_owned();
        };
        let (before, after) = text.split_at(at + BEFORE.len());
        let end = after
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')
            .unwrap_or(after.len());
        if end == 0 {
            return text.to_owned();
        }
        format!("{before}{}{}", self.upload(&after[..end]), &after[end..])
    }

    /// `r0001/kind-042` becomes `(kind)`.
    fn without_names(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, kind) in &self.names {
            text = text.replace(name, kind);
        }
        text
    }
}

/// `a;dur=1.5, b;dur=0.1` with the numbers left out: what was measured, not how long it took.
/// Moments as RFC 3339 has them, to the millisecond, as they are or as a query has them.
fn without_times(text: &str) -> String {
    let shapes = ["0000-00-00T00:00:00.000Z", "0000-00-00T00%3A00%3A00.000Z"];
    let is = |piece: &str, shape: &str| {
        let fits = |(byte, expected)| match expected {
            b'0' => u8::is_ascii_digit(byte),
            other => *byte == other,
        };
        piece.len() == shape.len() && piece.as_bytes().iter().zip(shape.bytes()).all(fits)
    };
    let (mut out, mut rest) = (String::new(), text);
    while let Some(first) = rest.chars().next() {
        let shape = shapes
            .iter()
            .find(|shape| rest.get(..shape.len()).is_some_and(|piece| is(piece, shape)));
        let taken = match shape {
            Some(shape) => {
                out.push_str("(a time)");
                shape.len()
            }
            None => {
                out.push(first);
                first.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    out
}

fn timing(value: &str) -> String {
    let names = value
        .split(',')
        .map(|metric| metric.split(';').next().unwrap_or_default().trim());
    names.collect::<Vec<_>>().join(", ")
}

/// The first difference between two transcripts, if there is any.
pub(crate) fn difference(ours: &[String], theirs: &[String]) -> Option<String> {
    if let Some((ours, theirs)) = ours.iter().zip(theirs).find(|(ours, theirs)| ours != theirs) {
        return Some(format!("--- one\n{ours}\n--- other\n{theirs}"));
    }
    (ours.len() != theirs.len()).then(|| format!("{} exchanges here, {} there", ours.len(), theirs.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const OTHER: &str = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

    fn exchange(
        repository: &str,
        upload: &str,
        digest: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Exchange {
        let mut all = vec![
            ("date".to_owned(), format!("Mon {}", body.len())),
            (
                "location".to_owned(),
                format!("/v2/{repository}/blobs/uploads/{upload}?state=1"),
            ),
            ("docker-upload-uuid".to_owned(), upload.to_owned()),
            ("etag".to_owned(), format!("\"{digest}\"")),
        ];
        all.extend(
            headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        Exchange {
            method: http::Method::POST,
            target: format!(
                "/v2/{repository}/blobs/uploads/?mount={}",
                digest.replace(':', "%3A")
            ),
            status: 202,
            headers: all,
            body: body.as_bytes().to_vec(),
        }
    }

    fn differ(ours: &[Exchange], theirs: &[Exchange]) -> bool {
        let names = |names: [&str; 2]| names.map(|name| (name.to_owned(), name[4..5].to_owned())).into();
        let ours = Transcript::write(&names(["r01/a-001", "r01/b-001"]), ours);
        let theirs = Transcript::write(&names(["r02/a-002", "r02/b-002"]), theirs);
        difference(&ours, &theirs).is_some()
    }

    #[test]
    fn what_must_differ_is_no_difference() {
        let ours = exchange(
            "r01/a-001",
            "aaaa-1",
            DIGEST,
            &[("x-request-id", "1"), ("server-timing", "front;dur=1, hop;dur=9")],
            &format!("{{\"name\":\"r01/a-001\",\"digest\":\"{DIGEST}\"}}"),
        );
        let theirs = exchange(
            "r02/a-002",
            "bbbb-2",
            OTHER,
            &[
                ("x-request-id", "2"),
                ("server-timing", "front;dur=3, hop;dur=0.25"),
            ],
            &format!("{{\"name\":\"r02/a-002\",\"digest\":\"{OTHER}\"}}"),
        );
        assert!(!differ(&[ours], &[theirs]));
    }

    #[test]
    fn a_header_a_status_or_a_byte_too_many_is_a_difference() {
        let one = || exchange("r01/a-001", "u", DIGEST, &[], "body");
        let other = || exchange("r02/a-002", "v", OTHER, &[], "body");
        assert!(!differ(&[one()], &[other()]));
        assert!(differ(&[one()], &[]));
        assert!(differ(
            &[one()],
            &[Exchange {
                status: 201,
                ..other()
            }]
        ));
        assert!(differ(
            &[one()],
            &[exchange(
                "r02/a-002",
                "v",
                OTHER,
                &[("content-length", "4")],
                "body"
            )]
        ));
        assert!(differ(
            &[one()],
            &[exchange("r02/a-002", "v", OTHER, &[], "bodY")]
        ));
        assert!(differ(
            &[one()],
            &[exchange("r02/b-002", "v", OTHER, &[], "body")]
        ));
        assert!(
            differ(&[one()], &[exchange("r01/a-002", "v", OTHER, &[], "body")]),
            "a foreign repository"
        );
    }

    #[test]
    fn an_upload_or_digest_that_comes_back_must_be_the_same_one() {
        let ours = [
            exchange("r01/a-001", "u", DIGEST, &[], ""),
            exchange("r01/a-001", "u", DIGEST, &[], ""),
        ];
        let upload = [
            exchange("r02/a-002", "v", OTHER, &[], ""),
            exchange("r02/a-002", "w", OTHER, &[], ""),
        ];
        let digest = [
            exchange("r02/a-002", "v", OTHER, &[], ""),
            exchange("r02/a-002", "v", DIGEST, &[], ""),
        ];
        assert!(differ(&ours, &upload));
        assert!(differ(&ours, &digest));
    }

    #[test]
    fn bytes_that_are_no_text_are_compared() {
        let binary = |repository: &str, byte| Exchange {
            body: vec![255, byte],
            ..exchange(repository, "u", DIGEST, &[], "")
        };
        // As with digests, different content of two runs is no difference, a different length is.
        assert!(!differ(&[binary("r01/a-001", 1)], &[binary("r02/a-002", 2)]));
        let longer = Exchange {
            body: vec![255; 3],
            ..binary("r02/a-002", 1)
        };
        assert!(differ(&[binary("r01/a-001", 1)], &[longer]));
    }
}
