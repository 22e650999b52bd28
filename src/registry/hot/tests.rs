use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use tempfile::TempDir;

use super::{super::objects::Written, file::BLOCK, *};
use crate::{
    oci::Algorithm,
    storage::{BlobStore as _, MemoryBlobs, ObjectKey, Payload, StoreError, StoreErrorKind},
};

const BYTES: u64 = 64 * BLOCK;
const PAUSE: Duration = Duration::from_secs(300);

/// A folder of hot blobs before a store in memory that counts how often it is read.
struct World {
    folder: TempDir,
    hot: Hot,
    metrics: Arc<Metrics>,
    blobs: Arc<MemoryBlobs>,
    reads: AtomicUsize,
}

struct Stored {
    digest: Digest,
    object: Written,
    content: Bytes,
}

fn open(folder: &TempDir, metrics: &Arc<Metrics>) -> Result<Hot, HotError> {
    let config = CacheConfig {
        path: folder.path().join("hot"),
        bytes: BYTES,
    };
    Hot::open(&config, PAUSE, metrics.clone())
}

impl World {
    fn new() -> Self {
        let (folder, metrics) = (tempfile::tempdir().unwrap(), Arc::new(Metrics::new()));
        Self {
            hot: open(&folder, &metrics).unwrap(),
            folder,
            metrics,
            blobs: Arc::new(MemoryBlobs::new()),
            reads: AtomicUsize::new(0),
        }
    }

    /// As after another start.
    fn again(self) -> Self {
        let Self {
            folder,
            hot,
            metrics,
            blobs,
            ..
        } = self;
        drop(hot);
        Self {
            hot: open(&folder, &metrics).unwrap(),
            folder,
            metrics,
            blobs,
            reads: AtomicUsize::new(0),
        }
    }

    async fn store(&self, seed: u32, size: u64) -> Stored {
        let content: Bytes = (0..u32::try_from(size).unwrap())
            .map(|at| (at.wrapping_mul(2_654_435_761).wrapping_add(seed * 7919) >> 13) as u8)
            .collect();
        Stored {
            digest: Digest::of(Algorithm::Sha256, &content),
            object: self.put(&format!("uploads/{seed}"), content.clone()).await,
            content,
        }
    }

    async fn put(&self, key: &str, content: Bytes) -> Written {
        let key = ObjectKey::parse(key).unwrap();
        let size = content.len() as u64;
        self.blobs.put(&key, Payload::from(content)).await.unwrap();
        let etag = self.blobs.head(&key).await.unwrap().unwrap().etag;
        Written { key, size, etag }
    }

    fn wanted<'a>(&self, blob: &'a Stored, range: ResolvedRange, rest: Rest) -> Wanted<'a> {
        let size = blob.content.len() as u64;
        Wanted {
            digest: &blob.digest,
            size,
            range,
            is_all: range.first == 0 && range.last == size - 1,
            rest,
        }
    }

    async fn stream(&self, blob: &Stored, range: ResolvedRange) -> ByteStream {
        self.stream_from(blob, range, &blob.object.key).await
    }

    /// From `key` instead of the object that the blob's link names.
    async fn stream_from(&self, blob: &Stored, range: ResolvedRange, key: &ObjectKey) -> ByteStream {
        let rest = Rest::Store(self.blobs.clone(), blob.object.clone());
        let stored = || async {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let opened = self.blobs.get(key, range.first, range.last).await?;
            Ok::<_, StoreError>(opened.bytes)
        };
        self.hot
            .read(self.wanted(blob, range, rest), stored)
            .await
            .unwrap()
    }

    async fn part(&self, blob: &Stored, first: u64, last: u64) -> Bytes {
        collect(self.stream(blob, ResolvedRange { first, last }).await)
            .await
            .unwrap()
    }

    /// Reads all of it, and asserts that it is what it is.
    async fn read(&self, blob: &Stored) {
        let all = self.part(blob, 0, blob.content.len() as u64 - 1).await;
        assert!(
            all == blob.content,
            "{} bytes of {}",
            all.len(),
            blob.content.len()
        );
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    fn files(&self) -> BTreeSet<PathBuf> {
        let files = fs::read_dir(self.folder.path().join("hot")).unwrap();
        let files = files.map(|file| file.unwrap().path());
        files.filter(|path| !path.ends_with("lock")).collect()
    }

    /// Takes everything from a file that is being written or read.
    fn empty_a_file(&self) {
        let file = self.files().first().unwrap().clone();
        let file = fs::File::options().write(true).open(file).unwrap();
        file.set_len(0).unwrap();
    }

    fn count(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|said| said == line)
    }
}

async fn collect(stream: ByteStream) -> Result<Bytes, StoreError> {
    let pieces: Vec<Bytes> = stream.try_collect().await?;
    Ok(pieces.concat().into())
}

#[tokio::test]
async fn a_blob_comes_once_and_is_then_read_whole_and_in_parts() {
    let world = World::new();
    for (n, size) in [BLOCK / 2, BLOCK, 3 * BLOCK + 17].into_iter().enumerate() {
        let blob = world.store(n as u32, size).await;
        assert_eq!(
            world.part(&blob, 3, 9).await,
            blob.content[3..=9],
            "before it is here"
        );
        let before = world.reads();
        for _ in 0..3 {
            world.read(&blob).await;
        }
        for (first, last) in [
            (0, 0),
            (size - 1, size - 1),
            (size / 3, size - 2),
            (BLOCK - 1, BLOCK),
        ] {
            if last < size {
                let (from, to) = (first as usize, last as usize);
                assert!(world.part(&blob, first, last).await == blob.content[from..=to]);
            }
        }
        assert_eq!(world.reads(), before + 1);
    }
    assert_eq!(world.files().len(), 3);
    assert!(
        world.count("portolan_cache_reads_total{outcome=\"miss\"} 6"),
        "{}",
        world.metrics.render()
    );
    let held: u64 = world
        .files()
        .iter()
        .map(|file| fs::metadata(file).unwrap().len())
        .sum();
    assert!(world.count(&format!("portolan_cache_held_bytes {held}")));
}

#[tokio::test]
async fn all_who_read_at_once_cost_the_store_one_read_whoever_leaves() {
    let world = World::new();
    let blob = world.store(1, 10 * BLOCK + 5).await;
    let all = ResolvedRange {
        first: 0,
        last: blob.content.len() as u64 - 1,
    };
    let mut first = world.stream(&blob, all).await;
    first.next().await.unwrap().unwrap();
    let mut readers = Vec::new();
    for _ in 0..20 {
        readers.push(world.stream(&blob, all).await);
    }
    // In the middle of the next block, too: what it had begun isn't lost.
    {
        let next = first.next();
        tokio::pin!(next);
        let _ = futures_util::poll!(next.as_mut());
    }
    drop(first);
    for bytes in join_all(readers.into_iter().map(collect)).await {
        assert!(bytes.unwrap() == blob.content);
    }
    world.read(&blob).await;
    assert_eq!(world.reads(), 1);
}

#[tokio::test]
async fn what_nobody_wants_any_more_leaves_nothing() {
    let world = World::new();
    let blob = world.store(1, 4 * BLOCK).await;
    let all = ResolvedRange {
        first: 0,
        last: 4 * BLOCK - 1,
    };
    let mut reader = world.stream(&blob, all).await;
    reader.next().await.unwrap().unwrap();
    assert_eq!(world.files().len(), 1);
    drop(reader);
    while !world.files().is_empty() {
        tokio::task::yield_now().await;
    }
    world.read(&blob).await;
    assert_eq!((world.reads(), world.files().len()), (2, 1));
}

#[tokio::test]
async fn a_missing_short_or_damaged_file_costs_a_read_and_is_no_answer() {
    let mut world = World::new();
    let blob = world.store(1, 5 * BLOCK + 9).await;
    let harms: [fn(&PathBuf); 4] = [
        |path| fs::remove_file(path).unwrap(),
        |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        },
        |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[3 * BLOCK as usize + 5] ^= 1;
            fs::write(path, bytes).unwrap();
        },
        |path| fs::write(path, vec![0; fs::metadata(path).unwrap().len() as usize]).unwrap(),
    ];
    for (n, harm) in harms.into_iter().enumerate() {
        for is_found_by_a_start in [false, true] {
            world.read(&blob).await;
            harm(world.files().first().unwrap());
            if is_found_by_a_start {
                world = world.again();
            }
            world.read(&blob).await;
            world.read(&blob).await;
            let reads = world.reads();
            world.read(&blob).await;
            assert_eq!(world.reads(), reads, "{n}: it is here again");
            assert_eq!(world.files().len(), 1, "{n}");
        }
    }
}

#[tokio::test]
async fn a_start_finds_what_was_there_and_clears_away_what_was_not_finished() {
    let world = World::new();
    let blobs = [world.store(1, BLOCK).await, world.store(2, 2 * BLOCK).await];
    for blob in &blobs {
        world.read(blob).await;
    }
    let hot = world.folder.path().join("hot");
    let second = open(&world.folder, &world.metrics).err();
    assert!(matches!(second, Some(HotError::InUse(_))), "{second:?}");
    let unfinished = format!(
        "{}.0123456789abcdef.new",
        blobs[0].digest.to_string().replace(':', "-")
    );
    for name in [&unfinished, "mine.txt", "sha256-00.1"] {
        fs::write(hot.join(name), b"?").unwrap();
    }
    let world = world.again();
    for blob in &blobs {
        world.read(blob).await;
    }
    assert_eq!(world.reads(), 0);
    assert!(!hot.join(unfinished).exists());
    assert!(hot.join("mine.txt").exists() && hot.join("sha256-00.1").exists());
}

#[tokio::test]
async fn what_is_asked_for_again_stays_and_all_files_have_room() {
    let world = World::new();
    let large = world.store(999, BYTES / 4 + 1).await;
    world.read(&large).await;
    world.read(&large).await;
    assert_eq!(
        (world.reads(), world.files().len()),
        (2, 0),
        "more than a quarter isn't kept"
    );
    let wanted = world.store(1000, 2 * BLOCK).await;
    for _ in 0..3 {
        world.read(&wanted).await;
    }
    for n in 0..100 {
        world.read(&world.store(n, 2 * BLOCK).await).await;
        let held: u64 = world
            .files()
            .iter()
            .map(|file| fs::metadata(file).unwrap().len())
            .sum();
        assert!(held <= BYTES, "{held}");
    }
    let before = world.reads();
    world.read(&wanted).await;
    assert_eq!(
        world.reads(),
        before,
        "a hundred that were asked for once made it go"
    );
    assert!(world.files().len() > 10);
}

#[tokio::test]
async fn who_reads_a_file_reads_on_when_it_goes() {
    let world = World::new();
    let blob = world.store(1000, 8 * BLOCK).await;
    world.read(&blob).await;
    let all = ResolvedRange {
        first: 0,
        last: 8 * BLOCK - 1,
    };
    let mut reader = world.stream(&blob, all).await;
    let mut bytes = reader.next().await.unwrap().unwrap().to_vec();
    let file = world.files().first().unwrap().clone();
    let mut n = 0;
    while file.exists() {
        assert!(n < 200, "nothing makes it go");
        world.read(&world.store(n, 4 * BLOCK).await).await;
        n += 1;
    }
    let before = world.reads();
    bytes.extend_from_slice(&collect(reader).await.unwrap());
    assert!(bytes == blob.content);
    assert_eq!(world.reads(), before);
}

#[tokio::test]
async fn wrong_bytes_end_before_their_end_and_are_not_kept() {
    let world = World::new();
    let blob = world.store(1, 3 * BLOCK).await;
    let mut other = blob.content.to_vec();
    other[BLOCK as usize] ^= 1;
    world.put(blob.object.key.as_str(), other.into()).await;
    let all = ResolvedRange {
        first: 0,
        last: 3 * BLOCK - 1,
    };
    let mut reader = world.stream(&blob, all).await;
    let mut came = 0;
    let error = loop {
        match reader.next().await.unwrap() {
            Ok(piece) => came += piece.len() as u64,
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), came), (StoreErrorKind::Corrupt, 2 * BLOCK));
    drop(reader);
    while !world.files().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_breaks_off_is_read_on_elsewhere_if_it_may_be() {
    let world = World::new();
    let blob = world.store(1, 3 * BLOCK).await;
    let all = ResolvedRange {
        first: 0,
        last: 3 * BLOCK - 1,
    };
    let broken = || async {
        let head = blob.content.slice(..BLOCK as usize + 100);
        let error = StoreError::new(StoreErrorKind::Unavailable, "get");
        let bytes: ByteStream = Box::pin(stream::iter([Ok(head), Err(error)]));
        Ok::<_, StoreError>(bytes)
    };
    let rest = Rest::Store(world.blobs.clone(), blob.object.clone());
    let read = world
        .hot
        .read(world.wanted(&blob, all, rest), broken)
        .await
        .unwrap();
    assert!(collect(read).await.unwrap() == blob.content);
    let read = world
        .hot
        .read(world.wanted(&blob, all, Rest::Nowhere), broken)
        .await
        .unwrap();
    assert_eq!(
        collect(read).await.unwrap_err().kind(),
        StoreErrorKind::Unavailable
    );
    // And one that can't be opened is told, not kept.
    let closed = || async { Err::<ByteStream, _>(StoreError::new(StoreErrorKind::NotFound, "get")) };
    let read = world
        .hot
        .read(world.wanted(&blob, all, Rest::Nowhere), closed)
        .await;
    assert_eq!(read.err().unwrap().kind(), StoreErrorKind::NotFound);
    world.read(&blob).await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_costs_nobody_an_answer_and_is_tried_again() {
    let world = World::new();
    let blob = world.store(1, 2 * BLOCK).await;
    let hot = world.folder.path().join("hot");
    fs::remove_dir_all(&hot).unwrap();
    world.read(&blob).await;
    world.read(&blob).await;
    assert_eq!(world.reads(), 2);
    assert!(world.count("portolan_cache_off 1"), "{}", world.metrics.render());
    assert!(world.count("portolan_cache_failures_total{cause=\"disk\"} 1"));
    fs::create_dir(&hot).unwrap();
    world.read(&blob).await;
    assert!(world.files().is_empty(), "not yet");
    tokio::time::advance(PAUSE).await;
    for _ in 0..2 {
        world.read(&blob).await;
    }
    assert_eq!((world.reads(), world.files().len()), (4, 1));
    assert!(world.count("portolan_cache_off 0"));
}

/// A disk that fails in the middle, and what is in the store by then.
#[tokio::test]
async fn what_the_disk_does_not_give_comes_from_the_object_that_was_written_or_from_none() {
    let all = ResolvedRange {
        first: 0,
        last: 3 * BLOCK - 1,
    };
    for is_whole in [false, true] {
        for is_replaced in [false, true] {
            let world = World::new();
            let blob = world.store(1, 3 * BLOCK).await;
            let mut wrong = blob.content.to_vec();
            wrong.rotate_left(1);
            if is_whole {
                world.read(&blob).await;
            }
            // The first reads ahead, of a file that isn't complete yet.
            let mut first = world.stream(&blob, all).await;
            first.next().await.unwrap().unwrap();
            let mut second = world.stream(&blob, all).await;
            if is_whole {
                second.next().await.unwrap().unwrap();
            }
            world.empty_a_file();
            if is_replaced {
                world.put(blob.object.key.as_str(), wrong.into()).await;
            }
            let rest = collect(second).await;
            let context = format!("whole {is_whole}, replaced {is_replaced}");
            match is_replaced {
                false => {
                    let begin = if is_whole { BLOCK as usize } else { 0 };
                    assert!(rest.unwrap() == blob.content[begin..], "{context}");
                }
                true => assert_eq!(rest.unwrap_err().kind(), StoreErrorKind::Corrupt, "{context}"),
            }
        }
    }
}

/// The blob's link names an object that is damaged, and the store's record another one, which is read in its place.
#[tokio::test]
async fn a_successor_is_not_gone_on_with_by_what_it_succeeds() {
    let world = World::new();
    let blob = world.store(1, 3 * BLOCK).await;
    let successor = world.put("uploads/successor", blob.content.clone()).await;
    let mut wrong = blob.content.to_vec();
    wrong.rotate_left(1);
    world.put(blob.object.key.as_str(), wrong.into()).await;
    let all = ResolvedRange {
        first: 0,
        last: 3 * BLOCK - 1,
    };
    let mut first = world.stream_from(&blob, all, &successor.key).await;
    first.next().await.unwrap().unwrap();
    let second = world.stream_from(&blob, all, &successor.key).await;
    world.empty_a_file();
    assert_eq!(collect(second).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
}
