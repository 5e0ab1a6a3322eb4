//! Byte-level byte-pair encoding: the merges of one piece of text.
//!
//! Nothing of the vocabulary's strings is kept here: encoding needs the ids of the 256 bytes and, for a pair of neighbouring
//! ids, the rank of their merge and the id that it gives.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};

use super::TokenizerError;

/// Pieces up to this many bytes are merged by scanning for the best pair (quadratic, but all in L1); longer ones
/// through a heap, which keeps a megabyte without a single break at `n log n`.
const SCAN_LIMIT: usize = 64;

/// No merge: larger than every [`Merges::get`].
const NONE: u64 = u64::MAX;

/// Token → id.
pub(super) type Index<'a> = HashMap<&'a str, u32, SeededHash>;

/// Byte-pair encoder over token ids.
pub(super) struct Bpe {
    /// Id of every byte's token; unused for the bytes that UTF-8 never contains.
    bytes: [u32; 256],
    merges: Merges,
}

/// Buffers reused over the pieces of a text.
#[derive(Default)]
pub(super) struct Scratch {
    ids: Vec<u32>,
    /// `pairs[i]`: the merge of symbol `i` with its right neighbour, or [`NONE`].
    pairs: Vec<u64>,
    links: Vec<Link>,
    heap: BinaryHeap<Reverse<(u64, u32)>>,
}

#[derive(Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
}

/// Two tokens that become one.
struct Merge {
    left: u32,
    right: u32,
    id: u32,
}

/// The ids of `merges`, the first of which has the rank `first`.
fn find_merges(
    tokens: &[&str],
    index: &Index<'_>,
    first: usize,
    merges: &[&str],
) -> Result<Vec<Merge>, TokenizerError> {
    let mut joined = String::new();
    let mut guess = 0;
    let find = |(i, &merge): (usize, &&str)| {
        let rank = first + i;
        let (left, right) = merge
            .split_once(' ')
            .filter(|(left, right)| !left.is_empty() && !right.is_empty() && !right.contains(' '))
            .ok_or_else(|| TokenizerError::MalformedMerge { index: rank, merge: merge.into() })?;
        let id_of = |token: &str| {
            index.get(token).copied().ok_or_else(|| TokenizerError::DanglingMerge {
                index: rank,
                merge: merge.into(),
                missing: token.into(),
            })
        };
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        // Vocabularies are ordered by merge, so the next id is nearly always the one; unless a token stands
        // twice, finding it there spares the lookup.
        let id = match tokens.get(guess) {
            Some(&token) if index.len() == tokens.len() && token == joined => guess as u32,
            _ => id_of(&joined)?,
        };
        guess = id as usize + 1;
        Ok(Merge { left: id_of(left)?, right: id_of(right)?, id })
    };
    merges.iter().enumerate().map(find).collect()
}

impl Bpe {
    /// Builds the merge table. `index` gives the id of a token, `tokens` the token of an id.
    pub(super) fn new(
        tokens: &[&str],
        index: &Index<'_>,
        merges: &[&str],
        warnings: &mut Vec<String>,
    ) -> Result<Self, TokenizerError> {
        let mut bytes = [0; 256];
        let mut buffer = [0; 4];
        for byte in 0..=u8::MAX {
            match index.get(&*byte_char(byte).encode_utf8(&mut buffer)) {
                Some(&id) => bytes[usize::from(byte)] = id,
                None if matches!(byte, 0xC0 | 0xC1 | 0xF5..) => {}
                None => return Err(TokenizerError::MissingByte { byte }),
            }
        }
        // Finding the ids of 150,000 merges is half of what building a tokenizer takes.
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
        let share = merges.len().div_ceil(workers).max(1024);
        let shares: Vec<Result<Vec<Merge>, TokenizerError>> = std::thread::scope(|scope| {
            let mut shares = merges.chunks(share).enumerate();
            let first = shares.next();
            let others: Vec<_> =
                shares.map(|(i, merges)| scope.spawn(move || find_merges(tokens, index, i * share, merges))).collect();
            let first = first.map(|(_, merges)| find_merges(tokens, index, 0, merges));
            let others = others.into_iter().map(|thread| thread.join().expect("finding merges does not panic"));
            first.into_iter().chain(others).collect()
        });
        let mut table = Merges::with_capacity(merges.len());
        let (mut rank, mut repeated) = (0, 0);
        for share in shares {
            for Merge { left, right, id } in share? {
                if !table.insert(left, right, rank, id) {
                    repeated += 1;
                }
                rank += 1;
            }
        }
        if repeated > 0 {
            warnings.push(format!("{repeated} merges of the vocabulary stand there twice; the first of each counts"));
        }
        Ok(Self { bytes, merges: table })
    }

    /// Appends the tokens of `piece`, which is shorter than 4 GiB.
    pub(super) fn encode(&self, piece: &str, scratch: &mut Scratch, out: &mut Vec<u32>) {
        let Scratch { ids, pairs, .. } = scratch;
        ids.clear();
        ids.extend(piece.bytes().map(|byte| self.bytes[usize::from(byte)]));
        pairs.clear();
        pairs.extend(ids.windows(2).map(|pair| self.merges.get(pair[0], pair[1])));
        if ids.len() <= SCAN_LIMIT {
            self.merge_by_scan(ids, pairs);
            out.extend_from_slice(ids);
        } else {
            self.merge_by_heap(scratch, out);
        }
    }

    fn merge_by_scan(&self, ids: &mut Vec<u32>, pairs: &mut Vec<u64>) {
        while let Some((at, &best)) = pairs.iter().enumerate().min_by_key(|&(_, &pair)| pair) {
            if best == NONE {
                return;
            }
            ids[at] = merged_id(best);
            ids.remove(at + 1);
            pairs.remove(at);
            if at > 0 {
                pairs[at - 1] = self.merges.get(ids[at - 1], ids[at]);
            }
            if at < pairs.len() {
                pairs[at] = self.merges.get(ids[at], ids[at + 1]);
            }
        }
    }

    fn merge_by_heap(&self, scratch: &mut Scratch, out: &mut Vec<u32>) {
        let Scratch { ids, pairs, links, heap } = scratch;
        let len = ids.len();
        pairs.push(NONE);
        links.clear();
        links.extend((0..len as u32).map(|i| Link { prev: i.wrapping_sub(1), next: i + 1 }));
        heap.clear();
        heap.extend((0u32..).zip(&*pairs).filter(|&(_, &pair)| pair != NONE).map(|(i, &pair)| Reverse((pair, i))));
        while let Some(Reverse((pair, left))) = heap.pop() {
            let at = left as usize;
            // An entry is stale once a neighbouring merge has changed the pair at its place.
            if pairs[at] != pair {
                continue;
            }
            let right = links[at].next as usize;
            let Link { next, .. } = links[right];
            ids[at] = merged_id(pair);
            links[at].next = next;
            pairs[right] = NONE;
            pairs[at] = NONE;
            if (next as usize) < len {
                links[next as usize].prev = left;
                pairs[at] = self.merges.get(ids[at], ids[next as usize]);
            }
            let prev = links[at].prev;
            if (prev as usize) < len {
                pairs[prev as usize] = self.merges.get(ids[prev as usize], ids[at]);
            }
            for place in [prev, left] {
                if let Some(&pair) = pairs.get(place as usize).filter(|&&pair| pair != NONE) {
                    heap.push(Reverse((pair, place)));
                }
            }
        }
        let mut at = 0;
        while at < len {
            out.push(ids[at]);
            at = links[at].next as usize;
        }
    }
}

/// The character that stands for a byte in byte-level vocabularies (`bytes_to_unicode` of GPT-2): printable Latin-1
/// bytes stand for themselves, the others for U+0100 onwards in their order.
pub(super) fn byte_char(byte: u8) -> char {
    let offset = match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => return char::from(byte),
        0..b'!' => byte,
        0x7F..=0xA0 => byte - 0x7F + 33,
        0xAD => 67,
    };
    char::from_u32(0x100 + u32::from(offset)).expect("below the surrogates")
}

/// The byte that a character of byte-level vocabularies stands for: [`byte_char`] the other way round.
pub(super) fn char_byte(c: char) -> Option<u8> {
    let byte = match u32::from(c) {
        c @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => c,
        c @ 0x100..0x121 => c - 0x100,
        c @ 0x121..0x143 => c - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// (left id, right id) → rank of the merge in the high half, merged id in the low half; so the smallest goes first.
struct Merges(HashMap<u64, u64, SeededHash>);

impl Merges {
    fn with_capacity(pairs: usize) -> Self {
        Self(HashMap::with_capacity_and_hasher(pairs, SeededHash::new()))
    }

    /// False, and no change, if the pair is there already.
    fn insert(&mut self, left: u32, right: u32, rank: u32, id: u32) -> bool {
        let mut fresh = false;
        self.0.entry(pack(left, right)).or_insert_with(|| {
            fresh = true;
            pack(rank, id)
        });
        fresh
    }

    fn get(&self, left: u32, right: u32) -> u64 {
        self.0.get(&pack(left, right)).copied().unwrap_or(NONE)
    }
}

fn pack(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn merged_id(pair: u64) -> u32 {
    pair as u32
}

/// Folded multiplication with a random seed, for ids and tokens: a few cycles a lookup, and a crafted file cannot aim
/// at its collisions.
#[derive(Clone, Copy)]
pub(super) struct SeededHash(u64);

impl SeededHash {
    pub(super) fn new() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for SeededHash {
    type Hasher = SeededHash;

    fn build_hasher(&self) -> SeededHash {
        *self
    }
}

impl Hasher for SeededHash {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, key: u64) {
        let product = u128::from(key ^ self.0) * u128::from(0x9E37_79B9_7F4A_7C15_u64);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    /// Only ends a string.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        for byte in 0..=u8::MAX {
            assert_eq!(char_byte(byte_char(byte)), Some(byte));
        }
        assert_eq!(('\0'..=char::MAX).filter(|c| char_byte(*c).is_some()).count(), 256);
    }
}
