//! What is in the bucket, for who looks after it.

use std::time::SystemTime;

use aws_sdk_s3::primitives::DateTime;

use super::{bucket::Bucket, error::failed};
use crate::storage::{Listed, Listing, MAX_UNFINISHED, StoreError};

impl Bucket {
    /// A page of the objects below the prefix, by their keys without it.
    pub(super) async fn list(&self, after: Option<&str>) -> Result<Listing, StoreError> {
        let page = self
            .client
            .list_objects_v2()
            .bucket(&self.name)
            .prefix(&self.prefix)
            .set_start_after(after.map(|after| self.full(after)))
            .send()
            .await
            .map_err(|error| failed("list", error))?;
        let is_truncated = page.is_truncated == Some(true);
        let objects = page.contents.unwrap_or_default().into_iter();
        let objects = objects.filter_map(|object| {
            Some(Listed {
                key: object.key?.strip_prefix(&self.prefix)?.to_owned(),
                length: object.size.and_then(|size| u64::try_from(size).ok())?,
                written: object.last_modified.as_ref().and_then(time),
            })
        });
        let objects: Vec<_> = objects.collect();
        let more = is_truncated && !objects.is_empty();
        Ok(Listing { objects, more })
    }

    /// The multipart uploads below the prefix.
    pub(super) async fn unfinished(&self) -> Result<Vec<Listed>, StoreError> {
        let (mut key, mut id, mut listed) = (None::<String>, None::<String>, Vec::new());
        loop {
            let page = self
                .client
                .list_multipart_uploads()
                .bucket(&self.name)
                .prefix(&self.prefix)
                .set_key_marker(key.clone())
                .set_upload_id_marker(id.clone())
                .send()
                .await
                .map_err(|error| failed("list uploads", error))?;
            let uploads = page.uploads.unwrap_or_default().into_iter();
            listed.extend(uploads.filter_map(|upload| {
                Some(Listed {
                    // Not every server filters by the prefix.
                    key: upload.key?.strip_prefix(&self.prefix)?.to_owned(),
                    length: 0,
                    written: upload.initiated.as_ref().and_then(time),
                })
            }));
            let next = (page.next_key_marker, page.next_upload_id_marker);
            // Not every server says from where to go on.
            let is_over = page.is_truncated != Some(true) || next == (None, None) || next == (key, id);
            if is_over || listed.len() >= MAX_UNFINISHED {
                listed.truncate(MAX_UNFINISHED);
                return Ok(listed);
            }
            (key, id) = next;
        }
    }
}

fn time(at: &DateTime) -> Option<SystemTime> {
    SystemTime::try_from(*at).ok()
}
