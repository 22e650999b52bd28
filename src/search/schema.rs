//! zot's schema, type by type: the names, the nullability and the order are its; a test compares them with what a zot
//! says of itself. (`CVE` and its like are there because the schema has them; nothing makes one.)

use juniper::{GraphQLEnum, GraphQLInputObject, GraphQLObject, GraphQLScalar};

/// A moment, in RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, GraphQLScalar)]
#[graphql(name = "Time", transparent)]
pub(super) struct Time(pub(super) String);

/// How a list is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, GraphQLEnum)]
pub(super) enum SortCriteria {
    /// Best match first.
    Relevance,
    /// Newest first.
    UpdateTime,
    /// By name.
    AlphabeticAsc,
    /// By name, backwards.
    AlphabeticDsc,
    /// Worst first: for vulnerabilities.
    Severity,
    /// Most starred first.
    Stars,
    /// Most pulled first.
    Downloads,
}

/// The part of a list that is asked for.
#[derive(Clone, Copy, Debug, Default, GraphQLInputObject)]
pub(super) struct PageInput {
    /// At most so many; 0 or none: as many as there may be in one answer.
    pub(super) limit: Option<i32>,
    /// After so many.
    pub(super) offset: Option<i32>,
    /// In this order.
    #[graphql(name = "sortBy")]
    pub(super) sort_by: Option<SortCriteria>,
}

/// What a platform must be.
#[derive(Clone, Debug, GraphQLInputObject)]
pub(super) struct PlatformInput {
    /// Operating system.
    #[graphql(name = "Os")]
    pub(super) os: Option<String>,
    /// Architecture, with its variant after a slash.
    #[graphql(name = "Arch")]
    pub(super) arch: Option<String>,
}

/// Names an image.
#[derive(Clone, Debug, GraphQLInputObject)]
pub(super) struct ImageInput {
    /// Repository.
    #[graphql(name = "Repo")]
    pub(super) repo: String,
    /// Tag.
    #[graphql(name = "Tag")]
    pub(super) tag: String,
    /// Digest.
    #[graphql(name = "Digest")]
    pub(super) digest: Option<String>,
    /// Platform.
    #[graphql(name = "Platform")]
    pub(super) platform: Option<PlatformInput>,
}

/// What results must be like.
#[derive(Clone, Debug, Default, GraphQLInputObject)]
pub(super) struct Filter {
    /// One of these operating systems.
    #[graphql(name = "Os")]
    pub(super) os: Option<Vec<Option<String>>>,
    /// One of these architectures.
    #[graphql(name = "Arch")]
    pub(super) arch: Option<Vec<Option<String>>>,
    /// Signed, if true.
    #[graphql(name = "HasToBeSigned")]
    pub(super) has_to_be_signed: Option<bool>,
    /// Bookmarked by who asks, or not.
    #[graphql(name = "IsBookmarked")]
    pub(super) is_bookmarked: Option<bool>,
    /// Starred by who asks, or not.
    #[graphql(name = "IsStarred")]
    pub(super) is_starred: Option<bool>,
}

/// How much there is, and how much of it is in the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, GraphQLObject)]
pub(super) struct PageInfo {
    /// All.
    #[graphql(name = "TotalCount")]
    pub(super) total_count: i32,
    /// Of them here.
    #[graphql(name = "ItemCount")]
    pub(super) item_count: i32,
}

/// Operating system and architecture.
#[derive(Clone, Debug, PartialEq, Eq, GraphQLObject)]
pub(super) struct Platform {
    /// Operating system.
    #[graphql(name = "Os")]
    pub(super) os: Option<String>,
    /// Architecture, with its variant after a slash.
    #[graphql(name = "Arch")]
    pub(super) arch: Option<String>,
}

/// A layer.
#[derive(Clone, Debug, GraphQLObject)]
pub(super) struct LayerSummary {
    /// In bytes.
    #[graphql(name = "Size")]
    pub(super) size: Option<String>,
    /// Its digest.
    #[graphql(name = "Digest")]
    pub(super) digest: Option<String>,
}

/// How a layer came to be.
#[derive(Clone, Debug, Default, GraphQLObject)]
pub(super) struct HistoryDescription {
    /// When.
    #[graphql(name = "Created")]
    pub(super) created: Option<Time>,
    /// By which command.
    #[graphql(name = "CreatedBy")]
    pub(super) created_by: Option<String>,
    /// By whom.
    #[graphql(name = "Author")]
    pub(super) author: Option<String>,
    /// What was said of it.
    #[graphql(name = "Comment")]
    pub(super) comment: Option<String>,
    /// Whether it made no layer.
    #[graphql(name = "EmptyLayer")]
    pub(super) empty_layer: Option<bool>,
}

/// A step of an image's history, with its layer if it made one.
#[derive(Clone, Debug, GraphQLObject)]
pub(super) struct LayerHistory {
    /// The layer.
    #[graphql(name = "Layer")]
    pub(super) layer: Option<LayerSummary>,
    /// The step.
    #[graphql(name = "HistoryDescription")]
    pub(super) history_description: Option<HistoryDescription>,
}

/// An annotation.
#[derive(Clone, Debug, GraphQLObject)]
pub(super) struct Annotation {
    /// Key.
    #[graphql(name = "Key")]
    pub(super) key: Option<String>,
    /// Value.
    #[graphql(name = "Value")]
    pub(super) value: Option<String>,
}

/// A manifest that refers to another.
#[derive(Clone, Debug, GraphQLObject)]
pub(super) struct Referrer {
    /// Of the referring manifest.
    #[graphql(name = "MediaType")]
    pub(super) media_type: Option<String>,
    /// What it is about its subject.
    #[graphql(name = "ArtifactType")]
    pub(super) artifact_type: Option<String>,
    /// Of the referring manifest, in bytes.
    #[graphql(name = "Size")]
    pub(super) size: Option<i32>,
    /// Of the referring manifest.
    #[graphql(name = "Digest")]
    pub(super) digest: Option<String>,
    /// Its annotations.
    #[graphql(name = "Annotations")]
    pub(super) annotations: Vec<Option<Annotation>>,
}

/// A signature, as it was stored: nothing here verifies one.
#[derive(Clone, Debug, GraphQLObject)]
pub(super) struct SignatureSummary {
    /// `cosign` or `notation`.
    #[graphql(name = "Tool")]
    pub(super) tool: Option<String>,
    /// Whether it was verified: never.
    #[graphql(name = "IsTrusted")]
    pub(super) is_trusted: Option<bool>,
    /// Who signed, where that was verified.
    #[graphql(name = "Author")]
    pub(super) author: Option<String>,
}

/// How many vulnerabilities were found.
#[derive(Clone, Debug, GraphQLObject)]
pub(super) struct ImageVulnerabilitySummary {
    /// The worst.
    #[graphql(name = "MaxSeverity")]
    pub(super) max_severity: Option<String>,
    /// All.
    #[graphql(name = "Count")]
    pub(super) count: Option<i32>,
    /// Of unknown severity.
    #[graphql(name = "UnknownCount")]
    pub(super) unknown_count: Option<i32>,
    /// Of low severity.
    #[graphql(name = "LowCount")]
    pub(super) low_count: Option<i32>,
    /// Of medium severity.
    #[graphql(name = "MediumCount")]
    pub(super) medium_count: Option<i32>,
    /// Of high severity.
    #[graphql(name = "HighCount")]
    pub(super) high_count: Option<i32>,
    /// Critical ones.
    #[graphql(name = "CriticalCount")]
    pub(super) critical_count: Option<i32>,
}

/// One image manifest: an image, or one platform of it.
#[derive(Clone, Debug, GraphQLObject)]
pub(super) struct ManifestSummary {
    /// Of the manifest.
    #[graphql(name = "Digest")]
    pub(super) digest: Option<String>,
    /// Of its configuration.
    #[graphql(name = "ConfigDigest")]
    pub(super) config_digest: Option<String>,
    /// When the image was built.
    #[graphql(name = "LastUpdated")]
    pub(super) last_updated: Option<Time>,
    /// Manifest, configuration and layers, in bytes.
    #[graphql(name = "Size")]
    pub(super) size: Option<String>,
    /// Whether a signature of it is stored.
    #[graphql(name = "IsSigned")]
    pub(super) is_signed: Option<bool>,
    /// Signatures.
    #[graphql(name = "SignatureInfo")]
    pub(super) signature_info: Option<Vec<Option<SignatureSummary>>>,
    /// What it runs on.
    #[graphql(name = "Platform")]
    pub(super) platform: Option<Platform>,
    /// Pulls.
    #[graphql(name = "DownloadCount")]
    pub(super) download_count: Option<i32>,
    /// Layers, lowest first.
    #[graphql(name = "Layers")]
    pub(super) layers: Option<Vec<Option<LayerSummary>>>,
    /// How it was built.
    #[graphql(name = "History")]
    pub(super) history: Option<Vec<Option<LayerHistory>>>,
    /// Vulnerabilities: nothing is scanned.
    #[graphql(name = "Vulnerabilities")]
    pub(super) vulnerabilities: Option<ImageVulnerabilitySummary>,
    /// What refers to it.
    #[graphql(name = "Referrers")]
    pub(super) referrers: Option<Vec<Option<Referrer>>>,
    /// What it is.
    #[graphql(name = "ArtifactType")]
    pub(super) artifact_type: Option<String>,
}

/// An image: a tag, and what it names.
#[derive(Clone, Debug, Default, GraphQLObject)]
pub(super) struct ImageSummary {
    /// Repository.
    #[graphql(name = "RepoName")]
    pub(super) repo_name: Option<String>,
    /// Tag.
    #[graphql(name = "Tag")]
    pub(super) tag: Option<String>,
    /// Of what the tag names.
    #[graphql(name = "Digest")]
    pub(super) digest: Option<String>,
    /// Of what the tag names.
    #[graphql(name = "MediaType")]
    pub(super) media_type: Option<String>,
    /// Its manifests.
    #[graphql(name = "Manifests")]
    pub(super) manifests: Option<Vec<Option<ManifestSummary>>>,
    /// The sum of its manifests, in bytes.
    #[graphql(name = "Size")]
    pub(super) size: Option<String>,
    /// Pulls.
    #[graphql(name = "DownloadCount")]
    pub(super) download_count: Option<i32>,
    /// The last pull.
    #[graphql(name = "LastPullTimestamp")]
    pub(super) last_pull_timestamp: Option<Time>,
    /// When the tag was pushed.
    #[graphql(name = "PushTimestamp")]
    pub(super) push_timestamp: Option<Time>,
    /// By whom.
    #[graphql(name = "PushedBy")]
    pub(super) pushed_by: Option<String>,
    /// When the tag came to name this.
    #[graphql(name = "TaggedTimestamp")]
    pub(super) tagged_timestamp: Option<Time>,
    /// When the image was built.
    #[graphql(name = "LastUpdated")]
    pub(super) last_updated: Option<Time>,
    /// Annotation or label.
    #[graphql(name = "Description")]
    pub(super) description: Option<String>,
    /// Whether a signature of it is stored.
    #[graphql(name = "IsSigned")]
    pub(super) is_signed: Option<bool>,
    /// Signatures.
    #[graphql(name = "SignatureInfo")]
    pub(super) signature_info: Option<Vec<Option<SignatureSummary>>>,
    /// Annotation or label.
    #[graphql(name = "Licenses")]
    pub(super) licenses: Option<String>,
    /// Annotation or label.
    #[graphql(name = "Labels")]
    pub(super) labels: Option<String>,
    /// Annotation or label.
    #[graphql(name = "Title")]
    pub(super) title: Option<String>,
    /// Annotation or label.
    #[graphql(name = "Source")]
    pub(super) source: Option<String>,
    /// Annotation or label.
    #[graphql(name = "Documentation")]
    pub(super) documentation: Option<String>,
    /// Annotation or label.
    #[graphql(name = "Vendor")]
    pub(super) vendor: Option<String>,
    /// Annotation or label, or the configuration's author.
    #[graphql(name = "Authors")]
    pub(super) authors: Option<String>,
    /// Vulnerabilities: nothing is scanned.
    #[graphql(name = "Vulnerabilities")]
    pub(super) vulnerabilities: Option<ImageVulnerabilitySummary>,
    /// What refers to it.
    #[graphql(name = "Referrers")]
    pub(super) referrers: Option<Vec<Option<Referrer>>>,
    /// Whether who asks may delete it, where that is told.
    #[graphql(name = "IsDeletable")]
    pub(super) is_deletable: Option<bool>,
    /// What it is.
    #[graphql(name = "ArtifactType")]
    pub(super) artifact_type: Option<String>,
}

/// A repository.
#[derive(Clone, Debug, Default, GraphQLObject)]
pub(super) struct RepoSummary {
    /// Its name.
    #[graphql(name = "Name")]
    pub(super) name: Option<String>,
    /// The last push of a tag.
    #[graphql(name = "LastUpdated")]
    pub(super) last_updated: Option<Time>,
    /// What its images take together, each blob once, in bytes.
    #[graphql(name = "Size")]
    pub(super) size: Option<String>,
    /// Of its images.
    #[graphql(name = "Platforms")]
    pub(super) platforms: Option<Vec<Option<Platform>>>,
    /// Of its images.
    #[graphql(name = "Vendors")]
    pub(super) vendors: Option<Vec<Option<String>>>,
    /// The one built last.
    #[graphql(name = "NewestImage")]
    pub(super) newest_image: Option<ImageSummary>,
    /// Pulls.
    #[graphql(name = "DownloadCount")]
    pub(super) download_count: Option<i32>,
    /// How many users starred it.
    #[graphql(name = "StarCount")]
    pub(super) star_count: Option<i32>,
    /// By who asks.
    #[graphql(name = "IsBookmarked")]
    pub(super) is_bookmarked: Option<bool>,
    /// By who asks.
    #[graphql(name = "IsStarred")]
    pub(super) is_starred: Option<bool>,
    /// How well it matches: the smaller, the better.
    #[graphql(name = "Rank")]
    pub(super) rank: Option<i32>,
}

/// A repository with its images.
#[derive(Clone, Debug, GraphQLObject)]
pub(super) struct RepoInfo {
    /// Newest first.
    #[graphql(name = "Images")]
    pub(super) images: Option<Vec<Option<ImageSummary>>>,
    /// The repository.
    #[graphql(name = "Summary")]
    pub(super) summary: Option<RepoSummary>,
}

/// What was found.
#[derive(Clone, Debug, GraphQLObject)]
pub(super) struct GlobalSearchResult {
    /// How much.
    #[graphql(name = "Page")]
    pub(super) page: Option<PageInfo>,
    /// Images, for a query with a `:`.
    #[graphql(name = "Images")]
    pub(super) images: Option<Vec<Option<ImageSummary>>>,
    /// Repositories, for one without.
    #[graphql(name = "Repos")]
    pub(super) repos: Option<Vec<Option<RepoSummary>>>,
    /// Layers: always empty, as in zot.
    #[graphql(name = "Layers")]
    pub(super) layers: Option<Vec<Option<LayerSummary>>>,
}

/// A page of repositories.
#[derive(Clone, Debug, GraphQLObject)]
pub(super) struct PaginatedReposResult {
    /// How many.
    #[graphql(name = "Page")]
    pub(super) page: Option<PageInfo>,
    /// Which.
    #[graphql(name = "Results")]
    pub(super) results: Vec<RepoSummary>,
}

/// A page of images.
#[derive(Clone, Debug, GraphQLObject)]
pub(super) struct PaginatedImagesResult {
    /// How many.
    #[graphql(name = "Page")]
    pub(super) page: Option<PageInfo>,
    /// Which.
    #[graphql(name = "Results")]
    pub(super) results: Vec<ImageSummary>,
}

/// A package with a vulnerability.
#[derive(Clone, Debug, GraphQLObject)]
pub(super) struct PackageInfo {
    /// Name.
    #[graphql(name = "Name")]
    pub(super) name: Option<String>,
    /// Where in the image.
    #[graphql(name = "PackagePath")]
    pub(super) package_path: Option<String>,
    /// Version.
    #[graphql(name = "InstalledVersion")]
    pub(super) installed_version: Option<String>,
    /// Version without it.
    #[graphql(name = "FixedVersion")]
    pub(super) fixed_version: Option<String>,
}

/// A vulnerability.
#[derive(Clone, Debug, GraphQLObject)]
#[graphql(name = "CVE")]
pub(super) struct Cve {
    /// Its number.
    #[graphql(name = "Id")]
    pub(super) id: Option<String>,
    /// Title.
    #[graphql(name = "Title")]
    pub(super) title: Option<String>,
    /// Description.
    #[graphql(name = "Description")]
    pub(super) description: Option<String>,
    /// Where to read on.
    #[graphql(name = "Reference")]
    pub(super) reference: Option<String>,
    /// How bad.
    #[graphql(name = "Severity")]
    pub(super) severity: Option<String>,
    /// In which packages.
    #[graphql(name = "PackageList")]
    pub(super) package_list: Option<Vec<Option<PackageInfo>>>,
}

/// The vulnerabilities of an image.
#[derive(Clone, Debug, GraphQLObject)]
#[graphql(name = "CVEResultForImage")]
pub(super) struct CveResultForImage {
    /// Which image.
    #[graphql(name = "Tag")]
    pub(super) tag: Option<String>,
    /// They.
    #[graphql(name = "CVEList")]
    pub(super) cve_list: Option<Vec<Option<Cve>>>,
    /// How many.
    #[graphql(name = "Summary")]
    pub(super) summary: Option<ImageVulnerabilitySummary>,
    /// Of this page.
    #[graphql(name = "Page")]
    pub(super) page: Option<PageInfo>,
}

/// An image that was compared.
#[derive(Clone, Debug, GraphQLObject)]
pub(super) struct ImageIdentifier {
    /// Repository.
    #[graphql(name = "Repo")]
    pub(super) repo: String,
    /// Tag.
    #[graphql(name = "Tag")]
    pub(super) tag: String,
    /// Digest.
    #[graphql(name = "Digest")]
    pub(super) digest: Option<String>,
    /// Platform.
    #[graphql(name = "Platform")]
    pub(super) platform: Option<Platform>,
}

/// Vulnerabilities of one image that another hasn't.
#[derive(Clone, Debug, GraphQLObject)]
#[graphql(name = "CVEDiffResult")]
pub(super) struct CveDiffResult {
    /// The one.
    #[graphql(name = "Minuend")]
    pub(super) minuend: ImageIdentifier,
    /// The other.
    #[graphql(name = "Subtrahend")]
    pub(super) subtrahend: ImageIdentifier,
    /// They.
    #[graphql(name = "CVEList")]
    pub(super) cve_list: Option<Vec<Option<Cve>>>,
    /// How many.
    #[graphql(name = "Summary")]
    pub(super) summary: Option<ImageVulnerabilitySummary>,
    /// Of this page.
    #[graphql(name = "Page")]
    pub(super) page: Option<PageInfo>,
}
