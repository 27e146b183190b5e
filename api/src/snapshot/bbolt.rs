//! Writes a bbolt database file in one pass, from rows that come in order.
//!
//! Owns: pages, the two meta pages, the B+ trees of buckets. Called by: `snapshot::contents`; `snapshot::database` reads the same pages.
//! Invariants: rows of a bucket arrive in strictly rising key order; the file is complete only after
//! [`Writer::finish`], because the meta pages at its head name the root that is written last; there is no free
//! list (readers rebuild it), because nothing in the file is free.
//! Source: bbolt's file format (little-endian pages, meta version 2).
//!
//! Memory: the page being filled per level of the tree, so a few pages plus the largest row.

use std::io::{self, Seek, SeekFrom, Write};

/// Bytes per page. bbolt reads the size from the meta page; 4096 is what it writes on most machines.
const PAGE_BYTES: usize = 4096;
pub(super) const PAGE_HEADER_BYTES: usize = 16;
pub(super) const ELEMENT_BYTES: usize = 16;
pub(super) const META_BYTES: usize = 64;
pub(super) const MAGIC: u32 = 0xED0C_DAED;
pub(super) const VERSION: u32 = 2;
pub(super) const FLAG_BRANCH: u16 = 0x01;
pub(super) const FLAG_LEAF: u16 = 0x02;
pub(super) const FLAG_META: u16 = 0x04;
/// Element flag of a row whose value is a bucket.
pub(super) const ELEMENT_BUCKET: u32 = 1;
/// "The free list is not kept in the file."
const NO_FREELIST: u64 = u64::MAX;
/// Pages 0 and 1 are the meta pages.
const FIRST_DATA_PAGE: u64 = 2;
/// The transaction id of the one transaction this file is made of.
const TRANSACTION: u64 = 2;

const _: () = assert!(PAGE_HEADER_BYTES + META_BYTES <= PAGE_BYTES);

/// A database file being written.
pub(super) struct Writer<W> {
    out: W,
    next_page: u64,
    buckets: Vec<(Vec<u8>, u64)>,
}

/// A bucket being written. Rows go in by [`Bucket::put`], in rising order of keys.
pub(super) struct Bucket<'w, W> {
    writer: &'w mut Writer<W>,
    name: Vec<u8>,
    levels: Vec<Node>,
    last_key: Option<Vec<u8>>,
}

/// A page in the making: level 0 holds rows, the levels above hold (first key, page) pairs.
#[derive(Default)]
struct Node {
    elements: Vec<Element>,
    bytes: usize,
}

struct Element {
    flags: u32,
    key: Vec<u8>,
    value: Vec<u8>,
    /// Child page, in branch pages.
    page: u64,
}

impl<W: Write + Seek> Writer<W> {
    /// Starts a file at the beginning of `out`.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub(super) fn new(mut out: W) -> io::Result<Self> {
        out.seek(SeekFrom::Start(0))?;
        out.write_all(&[0; 2 * PAGE_BYTES])?;
        Ok(Writer { out, next_page: FIRST_DATA_PAGE, buckets: Vec::new() })
    }

    /// Starts a bucket. Buckets may come in any order, each once.
    pub(super) fn bucket(&mut self, name: &str) -> Bucket<'_, W> {
        assert!(
            self.buckets.iter().all(|(known, _)| known != name.as_bytes()),
            "bucket {name} is written once"
        );
        Bucket { writer: self, name: name.as_bytes().to_vec(), levels: vec![Node::default()], last_key: None }
    }

    /// Writes the root and the meta pages; returns the size of the file in bytes.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.buckets.sort();
        let mut root = Node::default();
        for (name, page) in std::mem::take(&mut self.buckets) {
            root.push(Element { flags: ELEMENT_BUCKET, key: name, value: bucket_header(page), page: 0 });
        }
        assert!(root.page_bytes() <= PAGE_BYTES, "a handful of bucket names fit one page");
        let root_page = self.write_node(&root, 0)?;
        let end_page = self.next_page;
        for page in 0..2u64 {
            self.out.seek(SeekFrom::Start(page * PAGE_BYTES as u64))?;
            self.out.write_all(&meta_page(page, root_page, end_page))?;
        }
        self.out.flush()?;
        Ok(end_page * PAGE_BYTES as u64)
    }

    /// Writes a page (with its overflow) at the end of the file; returns its number.
    fn write_node(&mut self, node: &Node, level: usize) -> io::Result<u64> {
        let page = self.next_page;
        let bytes = node.page_bytes();
        let pages = bytes.div_ceil(PAGE_BYTES);
        let mut buffer = Vec::with_capacity(pages * PAGE_BYTES);
        buffer.extend_from_slice(&page.to_le_bytes());
        buffer.extend_from_slice(&(if level == 0 { FLAG_LEAF } else { FLAG_BRANCH }).to_le_bytes());
        buffer.extend_from_slice(&(node.elements.len() as u16).to_le_bytes());
        buffer.extend_from_slice(&((pages - 1) as u32).to_le_bytes());
        // Positions count from the element's own start.
        let mut data_at = PAGE_HEADER_BYTES + node.elements.len() * ELEMENT_BYTES;
        for (index, element) in node.elements.iter().enumerate() {
            let position = (data_at - (PAGE_HEADER_BYTES + index * ELEMENT_BYTES)) as u32;
            if level == 0 {
                buffer.extend_from_slice(&element.flags.to_le_bytes());
                buffer.extend_from_slice(&position.to_le_bytes());
                buffer.extend_from_slice(&(element.key.len() as u32).to_le_bytes());
                buffer.extend_from_slice(&(element.value.len() as u32).to_le_bytes());
            } else {
                buffer.extend_from_slice(&position.to_le_bytes());
                buffer.extend_from_slice(&(element.key.len() as u32).to_le_bytes());
                buffer.extend_from_slice(&element.page.to_le_bytes());
            }
            data_at += element.key.len() + element.value.len();
        }
        for element in &node.elements {
            buffer.extend_from_slice(&element.key);
            buffer.extend_from_slice(&element.value);
        }
        assert_eq!(buffer.len(), bytes, "a page is as long as its elements say");
        buffer.resize(pages * PAGE_BYTES, 0);
        self.out.write_all(&buffer)?;
        self.next_page += pages as u64;
        Ok(page)
    }
}

impl<W: Write + Seek> Bucket<'_, W> {
    /// Adds a row.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        assert!(!key.is_empty(), "bbolt has no empty keys");
        assert!(self.last_key.as_deref().is_none_or(|last| last < key), "rows of a bucket rise");
        self.last_key = Some(key.to_vec());
        self.push(0, Element { flags: 0, key: key.to_vec(), value: value.to_vec(), page: 0 })
    }

    /// Ends the bucket.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let mut level = 0;
        let root = loop {
            let node = std::mem::take(&mut self.levels[level]);
            let is_top = level + 1 == self.levels.len();
            let page = self.writer.write_node(&node, level)?;
            if is_top {
                break page;
            }
            let first_key = node.elements[0].key.clone();
            self.push(level + 1, Element { flags: 0, key: first_key, value: Vec::new(), page })?;
            level += 1;
        };
        let name = std::mem::take(&mut self.name);
        self.writer.buckets.push((name, root));
        Ok(())
    }

    /// Adds an element at a level; a full page goes out first and is named in the level above.
    fn push(&mut self, level: usize, element: Element) -> io::Result<()> {
        if level == self.levels.len() {
            self.levels.push(Node::default());
        }
        let node = &self.levels[level];
        let full = node.page_bytes() + ELEMENT_BYTES + element.key.len() + element.value.len() > PAGE_BYTES;
        if full && !node.elements.is_empty() {
            let node = std::mem::take(&mut self.levels[level]);
            let page = self.writer.write_node(&node, level)?;
            let first_key = node.elements[0].key.clone();
            self.push(level + 1, Element { flags: 0, key: first_key, value: Vec::new(), page })?;
        }
        self.levels[level].push(element);
        Ok(())
    }
}

impl Node {
    fn push(&mut self, element: Element) {
        self.bytes += ELEMENT_BYTES + element.key.len() + element.value.len();
        self.elements.push(element);
    }

    fn page_bytes(&self) -> usize {
        PAGE_HEADER_BYTES + self.bytes
    }
}

/// The value of a bucket's row: its root page and a sequence number, which etcd never uses.
fn bucket_header(root_page: u64) -> Vec<u8> {
    [root_page.to_le_bytes(), 0u64.to_le_bytes()].concat()
}

fn meta_page(page: u64, root_page: u64, end_page: u64) -> Vec<u8> {
    let mut meta = Vec::with_capacity(META_BYTES);
    meta.extend_from_slice(&MAGIC.to_le_bytes());
    meta.extend_from_slice(&VERSION.to_le_bytes());
    meta.extend_from_slice(&(PAGE_BYTES as u32).to_le_bytes());
    meta.extend_from_slice(&0u32.to_le_bytes());
    meta.extend_from_slice(&bucket_header(root_page));
    meta.extend_from_slice(&NO_FREELIST.to_le_bytes());
    meta.extend_from_slice(&end_page.to_le_bytes());
    // The reader takes the valid meta page with the larger transaction id.
    meta.extend_from_slice(&(TRANSACTION - 1 + page).to_le_bytes());
    let checksum = fnv1a(&meta);
    meta.extend_from_slice(&checksum.to_le_bytes());
    assert_eq!(meta.len(), META_BYTES);
    let mut buffer = Vec::with_capacity(PAGE_BYTES);
    buffer.extend_from_slice(&page.to_le_bytes());
    buffer.extend_from_slice(&FLAG_META.to_le_bytes());
    buffer.extend_from_slice(&0u16.to_le_bytes());
    buffer.extend_from_slice(&0u32.to_le_bytes());
    buffer.extend_from_slice(&meta);
    buffer.resize(PAGE_BYTES, 0);
    buffer
}

/// FNV-1a of 64 bits.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    type Rows = Vec<(Vec<u8>, Vec<u8>)>;

    /// A reader just large enough to walk what the writer wrote.
    fn read(file: &[u8]) -> Vec<(String, Rows)> {
        let meta = &file[PAGE_BYTES + PAGE_HEADER_BYTES..][..META_BYTES];
        assert_eq!(&meta[..4], &MAGIC.to_le_bytes());
        assert_eq!(u64::from_le_bytes(meta[56..64].try_into().unwrap()), fnv1a(&meta[..56]));
        let mut buckets = Vec::new();
        walk(file, number(&meta[16..]), &mut |name, value| {
            let mut rows = Vec::new();
            walk(file, number(value), &mut |key, value| rows.push((key.to_vec(), value.to_vec())));
            buckets.push((String::from_utf8(name.to_vec()).unwrap(), rows));
        });
        buckets
    }

    fn number(bytes: &[u8]) -> u64 {
        u64::from_le_bytes(bytes[..8].try_into().unwrap())
    }

    fn short(bytes: &[u8]) -> usize {
        u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize
    }

    fn walk(file: &[u8], page: u64, row: &mut dyn FnMut(&[u8], &[u8])) {
        let bytes = &file[page as usize * PAGE_BYTES..];
        assert_eq!(number(bytes), page);
        let flags = u16::from_le_bytes([bytes[8], bytes[9]]);
        for index in 0..u16::from_le_bytes([bytes[10], bytes[11]]) as usize {
            let element = &bytes[PAGE_HEADER_BYTES + index * ELEMENT_BYTES..];
            if flags == FLAG_LEAF {
                let (position, key, value) =
                    (short(&element[4..]), short(&element[8..]), short(&element[12..]));
                row(&element[position..][..key], &element[position + key..][..value]);
            } else {
                assert_eq!(flags, FLAG_BRANCH);
                walk(file, number(&element[8..]), row);
            }
        }
    }

    fn check(rows: &[(Vec<u8>, Vec<u8>)]) {
        let mut file = Cursor::new(Vec::new());
        let mut writer = Writer::new(&mut file).unwrap();
        let mut bucket = writer.bucket("key");
        for (key, value) in rows {
            bucket.put(key, value).unwrap();
        }
        bucket.finish().unwrap();
        writer.bucket("alarm").finish().unwrap();
        let bytes = writer.finish().unwrap();
        let file = file.into_inner();
        assert_eq!(file.len() as u64, bytes);
        assert_eq!(read(&file), [("alarm".to_owned(), vec![]), ("key".to_owned(), rows.to_vec())]);
    }

    #[test]
    fn rows_come_back_from_trees_of_every_height() {
        for count in [0u64, 1, 70, 100, 20_000, 200_000] {
            let rows: Vec<_> = (0..count)
                .map(|row| (row.to_be_bytes().to_vec(), vec![row as u8; (row % 40) as usize]))
                .collect();
            check(&rows);
        }
    }

    #[test]
    fn a_row_larger_than_a_page_overflows() {
        let rows: Vec<_> =
            (0..50u64).map(|row| (row.to_be_bytes().to_vec(), vec![7; (row * 700) as usize])).collect();
        check(&rows);
    }

    #[test]
    #[should_panic(expected = "rows of a bucket rise")]
    fn rows_out_of_order_are_refused() {
        let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
        let mut bucket = writer.bucket("key");
        bucket.put(b"b", b"").unwrap();
        bucket.put(b"a", b"").unwrap();
    }
}
