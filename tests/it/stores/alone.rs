//! One member whose content is in a bucket and whose metadata is a file of its own.

use std::path::Path;

use portolan::{
    config::{BlobStorage, Limits, MetaStorage, S3Config, Storage},
    storage::{OpenError, OpenStores, open},
};

use super::{s3_config, s3_server};
use crate::{
    api,
    support::{
        client::Ask as _,
        content::{Blob, Manifest},
        mesh::Plan,
    },
};

/// The least that S3 takes.
const PART: usize = 5 << 20;

fn storage(bucket: &S3Config, root: &Path) -> Storage {
    Storage {
        blobs: BlobStorage::S3(bucket.clone()),
        meta: MetaStorage::Redb {
            root: root.to_owned(),
        },
    }
}

async fn opened(bucket: &S3Config, root: &Path) -> OpenStores {
    open(&storage(bucket, root), &Limits::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_is_the_same_over_a_bucket_and_a_file_of_rows() {
    let (bucket, folder) = (s3_config(&s3_server()), tempfile::tempdir().unwrap());
    let stores = opened(&bucket, folder.path()).await;
    api::over(Plan::over(stores.stores()).parts(PART)).await;
    stores.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_pushed_is_there_after_a_restart_and_nobody_else_has_the_rows_meanwhile() {
    let (bucket, folder) = (s3_config(&s3_server()), tempfile::tempdir().unwrap());
    let repository = "alone/image";
    let blobs = [Blob::named("configuration", 700), Blob::named("layer", PART + 17)];
    let manifest = Manifest::image(&blobs[0], &[&blobs[1]]).build();
    {
        let stores = opened(&bucket, folder.path()).await;
        let second = open(&storage(&bucket, folder.path()), &Limits::default())
            .await
            .err();
        assert!(matches!(second, Some(OpenError::InUse { .. })), "{second:?}");
        let mesh = Plan::over(stores.stores()).parts(PART).start().await;
        for blob in &blobs {
            let pushed = mesh.client(0).push_blob(repository, blob).await.unwrap();
            pushed.expect(201);
        }
        let pushed = mesh.client(1).push_manifest(repository, "v1", &manifest).await;
        pushed.unwrap().expect(201);
        mesh.stop().await;
        stores.close().await;
    }
    let stores = opened(&bucket, folder.path()).await;
    let mesh = Plan::over(stores.stores()).parts(PART).start().await;
    for member in 0..3 {
        let client = mesh.client(member);
        let pulled = client
            .get(format!("/v2/{repository}/manifests/v1"))
            .await
            .unwrap();
        pulled.expect(200).with_body(&manifest.bytes);
        for blob in &blobs {
            let pulled = client
                .get(format!("/v2/{repository}/blobs/{}", blob.digest))
                .await;
            pulled.unwrap().expect(200).with_body(&blob.bytes);
        }
    }
    mesh.stop().await;
    stores.close().await;
    assert!(folder.path().join("meta.redb").exists() && !folder.path().join("blobs").exists());
}
