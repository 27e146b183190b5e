//! Reads a bbolt database file: the pages of its B+ trees, with every number checked before it is used.
//!
//! Owns: meta pages, page headers, elements, nested trees. Called by: everything here that reads a snapshot.
//! Invariants: whatever the bytes say, reading ends with rows or with an error that names file, page and fault; no more than
//! a page per level of the tree is in memory, none larger than [`PAGE_BYTES_MAX`]; a walk ends, because keys must rise and
//! only the root of a tree may be empty.
//! Source: bbolt's file format (little-endian pages, meta version 2).

mod meta;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::bbolt::{ELEMENT_BUCKET, ELEMENT_BYTES, FLAG_BRANCH, FLAG_LEAF, PAGE_HEADER_BYTES};
use meta::{read_meta, u16_at, u32_at, u64_at};

/// The largest page with its overflow: far more than the largest request an etcd takes.
const PAGE_BYTES_MAX: u64 = 256 << 20;
/// A tree of 8 GiB has five levels.
const DEPTH_MAX: usize = 24;
/// Top-level buckets of an etcd database: a dozen.
const BUCKETS_MAX: usize = 1024;
/// Bytes of a bucket's row before an inline page.
const BUCKET_HEADER_BYTES: usize = 16;

/// Why a file gives no more rows.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file cannot be read.
    #[error("read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The bytes are not those of a database.
    #[error("{path} is damaged: page {page}: {fault}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Number of the page.
        page: u64,
        /// What is wrong with it.
        fault: String,
    },
    /// No meta page counts.
    #[error("{path} is no bbolt database: {fault}")]
    NoDatabase {
        /// The file.
        path: PathBuf,
        /// Why not.
        fault: String,
    },
}

/// An open database file.
#[derive(Debug)]
pub struct Database {
    file: File,
    path: PathBuf,
    page_bytes: u64,
    /// Pages from here on do not exist.
    page_end: u64,
    root: u64,
}

/// A tree of rows.
#[derive(Debug)]
pub struct Bucket {
    name: Vec<u8>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Page(u64),
    /// The page stands in the row of the bucket, which is on the page of that number.
    Inline {
        page: Vec<u8>,
        on: u64,
    },
}

/// A page in memory.
struct Page<'b> {
    number: u64,
    bytes: &'b [u8],
    leaf: bool,
    count: usize,
}

/// An element of a leaf.
struct Row<'b> {
    flags: u32,
    key: &'b [u8],
    value: &'b [u8],
}

impl Database {
    /// Opens the first `bytes` bytes of a file as a database; all of it where `None`.
    ///
    /// # Errors
    /// The file, or no meta page that counts.
    pub fn open(path: &Path, bytes: Option<u64>) -> Result<Self, DatabaseError> {
        let io = |source| DatabaseError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => file.metadata().map_err(io)?.len(),
        };
        let no_database = |fault: String| DatabaseError::NoDatabase { path: path.to_owned(), fault };
        let mut metas = Vec::new();
        let mut faults = Vec::new();
        match read_meta(&file, 0).map_err(io)? {
            Ok(meta) => metas.push(meta),
            Err(fault) => faults.push(format!("page 0: {fault}")),
        }
        // Without the first, the size of a page is not known: the second stands at one of these places.
        let sizes = match metas.first() {
            Some(meta) => vec![meta.page_bytes],
            None => (9..=16).map(|power| 1 << power).collect(),
        };
        for size in sizes {
            if let Ok(meta) = read_meta(&file, size).map_err(io)?
                && meta.page_bytes == size
            {
                metas.push(meta);
            }
        }
        let Some(meta) = metas.into_iter().max_by_key(|meta| meta.transaction) else {
            faults.push("page 1: none of any size that counts".to_owned());
            return Err(no_database(faults.join("; ")));
        };
        let pages = bytes / meta.page_bytes;
        if meta.page_end > pages {
            return Err(no_database(format!(
                "it has {pages} pages of {} bytes where its meta page says {}: it is cut off",
                meta.page_bytes, meta.page_end
            )));
        }
        if meta.root < 2 || meta.root >= meta.page_end {
            return Err(no_database(format!("its root is page {} of {}", meta.root, meta.page_end)));
        }
        Ok(Database {
            file,
            path: path.to_owned(),
            page_bytes: meta.page_bytes,
            page_end: meta.page_end,
            root: meta.root,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes up to the end of the last page in use.
    pub fn bytes(&self) -> u64 {
        self.page_end * self.page_bytes
    }

    /// The top-level buckets, in order of their names.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn buckets(&self) -> Result<Vec<Bucket>, DatabaseError> {
        let mut buckets = Vec::new();
        self.walk(self.root, &mut |page, row| {
            if row.flags & ELEMENT_BUCKET == 0 {
                return Err(self.damaged(page, "a row of the root is no bucket"));
            }
            if buckets.len() == BUCKETS_MAX {
                return Err(self.damaged(page, "more buckets than any etcd has"));
            }
            let Some((head, inline)) = row.value.split_at_checked(BUCKET_HEADER_BYTES) else {
                return Err(self.damaged(page, "the head of a bucket is cut off"));
            };
            let place = match u64_at(head, 0) {
                0 => Place::Inline { page: inline.to_vec(), on: page },
                root => Place::Page(root),
            };
            buckets.push(Bucket { name: row.key.to_vec(), place });
            Ok(())
        })?;
        Ok(buckets)
    }

    /// Hands every row of a bucket to `visit`, in order of keys.
    ///
    /// # Errors
    /// See [`DatabaseError`], or what `visit` says.
    pub fn each<E: From<DatabaseError>>(
        &self,
        bucket: &Bucket,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut row = |page: u64, row: Row<'_>| {
            if row.flags != 0 {
                return Err(self.damaged(page, "a row is a bucket; etcd nests none").into());
            }
            visit(row.key, row.value)
        };
        match &bucket.place {
            Place::Page(root) => self.walk(*root, &mut row),
            Place::Inline { page, on } => {
                let page = self.parse(*on, page)?;
                if !page.leaf {
                    return Err(self.damaged(*on, "an inline bucket is no leaf").into());
                }
                self.each_row(&page, &mut Vec::new(), &mut row)
            }
        }
    }

    /// The last key of a bucket.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn last_key(&self, bucket: &Bucket) -> Result<Option<Vec<u8>>, DatabaseError> {
        let mut number = match &bucket.place {
            Place::Inline { page, on } => {
                let page = self.parse(*on, page)?;
                return page.count.checked_sub(1).map(|last| self.key(&page, last)).transpose();
            }
            Place::Page(root) => *root,
        };
        for _ in 0..DEPTH_MAX {
            let bytes = self.read(number)?;
            let page = self.parse(number, &bytes)?;
            let last = page.count.checked_sub(1);
            if page.leaf {
                return last.map(|last| self.key(&page, last)).transpose();
            }
            let last = last.ok_or_else(|| self.damaged(number, "a branch without children"))?;
            number = self.child(&page, last)?.1;
        }
        Err(self.damaged(number, "deeper than any tree"))
    }

    fn key(&self, page: &Page<'_>, index: usize) -> Result<Vec<u8>, DatabaseError> {
        match page.leaf {
            true => Ok(self.row(page, index)?.key.to_vec()),
            false => Err(self.damaged(page.number, "an inline bucket is no leaf")),
        }
    }

    fn damaged(&self, page: u64, fault: impl Into<String>) -> DatabaseError {
        DatabaseError::Damaged { path: self.path.clone(), page, fault: fault.into() }
    }

    fn walk<E: From<DatabaseError>>(
        &self,
        root: u64,
        visit: &mut impl FnMut(u64, Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.walk_from(root, 0, &mut Vec::new(), visit)
    }

    fn walk_from<E: From<DatabaseError>>(
        &self,
        number: u64,
        depth: usize,
        last_key: &mut Vec<u8>,
        visit: &mut impl FnMut(u64, Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if depth == DEPTH_MAX {
            return Err(self.damaged(number, "deeper than any tree").into());
        }
        let bytes = self.read(number)?;
        let page = self.parse(number, &bytes)?;
        if page.count == 0 && (depth > 0 || !page.leaf) {
            return Err(self.damaged(number, "empty, and not the root").into());
        }
        if page.leaf {
            return self.each_row(&page, last_key, visit);
        }
        for index in 0..page.count {
            let (key, child) = self.child(&page, index)?;
            // What stands below begins at the key that names it.
            if !last_key.is_empty() && key <= last_key.as_slice() {
                return Err(self.damaged(number, format!("child {index} is out of order")).into());
            }
            self.walk_from(child, depth + 1, last_key, visit)?;
        }
        Ok(())
    }

    fn each_row<E: From<DatabaseError>>(
        &self,
        page: &Page<'_>,
        last_key: &mut Vec<u8>,
        visit: &mut impl FnMut(u64, Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for index in 0..page.count {
            let row = self.row(page, index)?;
            if row.key.is_empty() || row.key <= last_key.as_slice() {
                return Err(self.damaged(page.number, format!("row {index} is out of order")).into());
            }
            last_key.clear();
            last_key.extend_from_slice(row.key);
            visit(page.number, row)?;
        }
        Ok(())
    }

    /// Reads a page with its overflow.
    fn read(&self, number: u64) -> Result<Vec<u8>, DatabaseError> {
        if number < 2 || number >= self.page_end {
            return Err(self.damaged(number, format!("named, but the file ends at page {}", self.page_end)));
        }
        let io = |source| DatabaseError::Io { path: self.path.clone(), source };
        let mut bytes = vec![0; self.page_bytes as usize];
        self.file.read_exact_at(&mut bytes, number * self.page_bytes).map_err(io)?;
        let overflow = u64::from(u32_at(&bytes, 12));
        if u64_at(&bytes, 0) != number {
            return Err(self.damaged(number, format!("it says that it is page {}", u64_at(&bytes, 0))));
        }
        let whole = (overflow + 1) * self.page_bytes;
        if overflow >= self.page_end - number || whole > PAGE_BYTES_MAX {
            return Err(self.damaged(number, format!("it says that it is {whole} bytes long")));
        }
        bytes.resize(whole as usize, 0);
        let rest = &mut bytes[self.page_bytes as usize..];
        self.file.read_exact_at(rest, (number + 1) * self.page_bytes).map_err(io)?;
        Ok(bytes)
    }

    /// Looks at the head of a page.
    fn parse<'b>(&self, number: u64, bytes: &'b [u8]) -> Result<Page<'b>, DatabaseError> {
        if bytes.len() < PAGE_HEADER_BYTES {
            return Err(self.damaged(number, "the head of a page is cut off"));
        }
        let leaf = match u16_at(bytes, 8) {
            FLAG_LEAF => true,
            FLAG_BRANCH => false,
            flags => return Err(self.damaged(number, format!("neither branch nor leaf: flags {flags:#x}"))),
        };
        let count = usize::from(u16_at(bytes, 10));
        if PAGE_HEADER_BYTES + count * ELEMENT_BYTES > bytes.len() {
            return Err(self.damaged(number, format!("{count} elements do not fit it")));
        }
        Ok(Page { number, bytes, leaf, count })
    }

    /// An element of a branch: its key and its child.
    fn child<'b>(&self, page: &Page<'b>, index: usize) -> Result<(&'b [u8], u64), DatabaseError> {
        let at = PAGE_HEADER_BYTES + index * ELEMENT_BYTES;
        let element = &page.bytes[at..];
        let key = self.slice(page, at, u32_at(element, 0), 0, u32_at(element, 4))?;
        Ok((key, u64_at(element, 8)))
    }

    /// An element of a leaf.
    fn row<'b>(&self, page: &Page<'b>, index: usize) -> Result<Row<'b>, DatabaseError> {
        let at = PAGE_HEADER_BYTES + index * ELEMENT_BYTES;
        let element = &page.bytes[at..];
        let (position, key_len, value_len) = (u32_at(element, 4), u32_at(element, 8), u32_at(element, 12));
        let key = self.slice(page, at, position, 0, key_len)?;
        let value = self.slice(page, at, position, key_len, value_len)?;
        Ok(Row { flags: u32_at(element, 0), key, value })
    }

    fn slice<'b>(
        &self,
        page: &Page<'b>,
        at: usize,
        position: u32,
        skipped: u32,
        len: u32,
    ) -> Result<&'b [u8], DatabaseError> {
        let start = at as u64 + u64::from(position) + u64::from(skipped);
        let end = start + u64::from(len);
        let whole = page.bytes.len() as u64;
        if end > whole {
            return Err(self.damaged(page.number, format!("an element reaches to byte {end} of {whole}")));
        }
        Ok(&page.bytes[start as usize..end as usize])
    }
}

impl Bucket {
    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }
}
