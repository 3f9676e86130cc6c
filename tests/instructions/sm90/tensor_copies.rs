//! Copies by the copy engine: boxes of a matrix whose elements all differ, in every swizzle, over every edge.

use super::swizzle::Swizzle;
use crate::{
    entry::{Matrix, Outcome},
    inputs,
    launch::{assert_words, check, run_with},
};

/// What entries put into shared memory before a copy lands there.
const BEFORE: u32 = 0xa5a5_a5a5;

/// A matrix of its own, columns and rows no multiples of anything. Behind each row are elements that belong
/// to nobody.
fn matrix(swizzle: Swizzle, box_rows: u32, box_columns: u32) -> Matrix {
    let (rows, columns, pitch) = (83, 149, 160);
    let elements = (0..rows * pitch).map(|i| i as u16 ^ 0x5a00).collect();
    Matrix { elements: Some(elements), rows, columns, pitch, box_rows, box_columns, swizzle }
}

/// One with a box that fits where several are under way.
pub(super) fn small() -> Matrix {
    matrix(Swizzle::B128, 16, 64)
}

impl Matrix {
    /// Where the element at a place is, if that is inside.
    fn index(&self, row: i64, column: i64) -> Option<usize> {
        let inside =
            (0..i64::from(self.rows)).contains(&row) && (0..i64::from(self.columns)).contains(&column);
        inside.then(|| (row * i64::from(self.pitch) + column) as usize)
    }

    /// The shared memory of the box from a place on; outside are zeros.
    fn load(&self, [column, row]: [i32; 2]) -> Vec<u32> {
        let elements = self.elements.as_ref().expect("memory of its own");
        let element = |i: u32, j: u32| {
            self.index(i64::from(row) + i64::from(i), i64::from(column) + i64::from(j))
                .map_or(0, |at| elements[at])
        };
        let rows: Vec<Vec<u16>> =
            (0..self.box_rows).map(|i| (0..self.box_columns).map(|j| element(i, j)).collect()).collect();
        self.swizzle.image(&rows)
    }

    /// Puts a box with these rows at a place; what is outside is left out.
    fn store(&mut self, [column, row]: [i32; 2], box_rows: &[Vec<u16>]) {
        for (i, elements) in (0..).zip(box_rows) {
            for (j, &element) in (0..).zip(elements) {
                if let Some(at) = self.index(i64::from(row) + i, i64::from(column) + j) {
                    self.elements.as_mut().expect("memory of its own")[at] = element;
                }
            }
        }
    }
}

/// Swizzles and boxes, in rows and columns. Rows of a swizzle have its bytes; without one they have any
/// multiple of 16.
const BOXES: [(Swizzle, u32, u32); 9] = [
    (Swizzle::None, 64, 64),
    (Swizzle::None, 16, 256),
    (Swizzle::None, 5, 8),
    (Swizzle::B32, 256, 16),
    (Swizzle::B32, 24, 16),
    (Swizzle::B64, 128, 32),
    (Swizzle::B64, 3, 32),
    (Swizzle::B128, 64, 64),
    (Swizzle::B128, 20, 64),
];

/// Places of boxes, column first: inside, over each edge, over corners, outside on each side.
const PLACES: [[i32; 2]; 14] = [
    [0, 0],
    [13, 7],
    [-3, 0],
    [0, -2],
    [-1, -1],
    [149 - 9, 20],
    [24, 83 - 2],
    [149 - 1, 83 - 1],
    [149, 0],
    [0, 83],
    [-256, 10],
    [10, -256],
    [i32::MIN, 0],
    [0, i32::MAX],
];

/// The first input words of an item.
fn head([column, row]: [i32; 2], bytes: u32) -> [u32; 4] {
    [column as u32, row as u32, bytes, 0]
}

/// `words`, and behind them what was there before, up to `length`.
fn over(mut words: Vec<u32>, length: usize) -> Vec<u32> {
    words.resize(length, BEFORE);
    words
}

#[track_caller]
fn loads(name: &str, boxes: &[(Swizzle, u32, u32)]) {
    for &(swizzle, rows, columns) in boxes {
        let matrix = matrix(swizzle, rows, columns);
        let input: Vec<u32> = PLACES.iter().flat_map(|&at| head(at, matrix.box_bytes())).collect();
        let expected: Vec<u32> = PLACES.iter().flat_map(|&at| over(matrix.load(at), 2048)).collect();
        for outcome in run_with(name, PLACES.len(), &input, Some(&matrix)) {
            let what = format!("{name}, {swizzle:?}, {rows} rows of {columns}");
            assert_words(&what, &outcome, &expected, |found, expected| found == expected);
        }
    }
}

#[test]
fn load_box() {
    loads("load_box", &BOXES);
}

#[test]
fn prefetch_tensor_map_changes_nothing() {
    loads("prefetch_tensor_map", &BOXES[..1]);
}

#[test]
fn mbarrier_arrive_expect_tx_waits_for_all_bytes() {
    let matrix = small();
    let input: Vec<u32> = PLACES.iter().flat_map(|&at| head(at, matrix.box_bytes())).collect();
    // Twice the same box, then four zeros: never early.
    let item = |&at| [matrix.load(at), matrix.load(at), vec![0; 4]].concat();
    let expected: Vec<u32> = PLACES.iter().flat_map(item).collect();
    for outcome in run_with("mbarrier_arrive_expect_tx", PLACES.len(), &input, Some(&matrix)) {
        assert_words("mbarrier_arrive_expect_tx", &outcome, &expected, |found, expected| found == expected);
    }
}

/// The masks of the four CTAs of three clusters: everybody to all; a ring; some to none, themselves or
/// several.
const MASKS: [[u32; 4]; 3] =
    [[0b1111; 4], [0b0010, 0b0100, 0b1000, 0b0001], [0b0110, 0b0010, 0b1001, 0b1000]];

/// Words of a CTA's place for a box.
const PLACE: usize = 512;

/// Input of a multicast, and what comes where.
pub(super) fn multicast(matrix: &Matrix) -> (Vec<u32>, Vec<u32>) {
    let (mut input, mut expected) = (Vec::new(), Vec::new());
    for (cluster, masks) in MASKS.iter().enumerate() {
        let place = |rank: usize| PLACES[4 * cluster + rank];
        for (rank, &mask) in masks.iter().enumerate() {
            let comes = |from: usize| masks[from] >> rank & 1 == 1;
            let coming = (0..4).filter(|&from| comes(from)).count() as u32 * matrix.box_bytes();
            let [column, row, bytes, _] = head(place(rank), matrix.box_bytes());
            input.extend([column, row, bytes, mask, coming, 0, 0, 0]);
            for from in 0..4 {
                let words = if comes(from) { matrix.load(place(from)) } else { Vec::new() };
                expected.extend(over(words, PLACE));
            }
        }
    }
    (input, expected)
}

#[test]
fn load_box_multicast() {
    for (swizzle, rows, columns) in [(Swizzle::B128, 16, 64), (Swizzle::B64, 31, 32), (Swizzle::None, 9, 56)]
    {
        let matrix = matrix(swizzle, rows, columns);
        let (input, expected) = multicast(&matrix);
        for outcome in run_with("load_box_multicast", 4 * MASKS.len(), &input, Some(&matrix)) {
            let what = format!("load_box_multicast, {swizzle:?}");
            assert_words(&what, &outcome, &expected, |found, expected| found == expected);
        }
    }
}

/// The rows of a box with elements that no matrix has.
fn rows(matrix: &Matrix, seed: u64) -> Vec<Vec<u16>> {
    let words = inputs::words((matrix.box_rows * matrix.box_columns) as usize, seed);
    words
        .chunks(matrix.box_columns as usize)
        .map(|row| row.iter().map(|&word| word as u16).collect())
        .collect()
}

/// Holds the matrix that a run left to the one that it should be.
#[track_caller]
fn assert_matrix(what: &str, outcome: &Outcome, expected: &Matrix) {
    let expected = expected.elements.as_ref().expect("memory of its own");
    assert_eq!(outcome.matrix.len(), expected.len());
    for (at, (found, expected)) in outcome.matrix.iter().zip(expected).enumerate() {
        let (row, column) = (at / 160, at % 160);
        assert_eq!(found, expected, "{what} by {}: row {row}, column {column}", outcome.by);
    }
}

#[test]
fn store_box() {
    for (swizzle, box_rows, box_columns) in BOXES {
        let matrix = matrix(swizzle, box_rows, box_columns);
        let mut expected = matrix.clone();
        let mut input = Vec::new();
        // Three boxes side by side in each of three rows of boxes, so that nobody stores what another one
        // does: the outer ones over edges, where the matrix is that small.
        let (width, height) = (box_columns as i32, box_rows as i32);
        let mut places = Vec::new();
        for row in [-height / 2, height - height / 2, 83 - height / 3] {
            for column in [-width / 2, width - width / 2, 149 - width / 3] {
                places.push([column, row]);
            }
        }
        places.retain(|&[column, row]| {
            // Those that reach into the one before are left out.
            (column < 149 - width / 3 || column >= 2 * width - width / 2)
                && (row < 83 - height / 3 || row >= 2 * height - height / 2)
                || (column, row) == (-width / 2, -height / 2)
        });
        places.extend([[149, 0], [0, 83], [-width, 0], [0, -height]]);
        for (number, &at) in places.iter().enumerate() {
            let rows = rows(&matrix, number as u64);
            input.extend(head(at, matrix.box_bytes()));
            input.extend(over(swizzle.image(&rows), 2048));
            expected.store(at, &rows);
        }
        assert_ne!(expected.elements, matrix.elements);
        for outcome in run_with("store_box", places.len(), &input, Some(&matrix)) {
            assert_matrix(
                &format!("store_box, {swizzle:?}, {box_rows} x {box_columns}"),
                &outcome,
                &expected,
            );
        }
    }
}

/// Boxes of one item, one under the other, and of the next item to the right.
pub(super) fn columns_of_boxes(boxes: usize) -> (Matrix, Vec<u32>, Matrix) {
    let matrix = small();
    let mut expected = matrix.clone();
    let mut input = Vec::new();
    for (item, column) in [(0, -5), (1, 59), (2, 123)] {
        // The last ones end below the matrix.
        let first = 83 - 16 * boxes as i32 + 6;
        let mut head = head([column, first], matrix.box_bytes());
        head[3] = 16;
        input.extend(head);
        for number in 0..boxes {
            let rows = rows(&matrix, (10 * item + number) as u64);
            input.extend(matrix.swizzle.image(&rows));
            expected.store([column, first + 16 * number as i32], &rows);
        }
    }
    (matrix, input, expected)
}

#[test]
fn groups_of_stores() {
    for (name, boxes) in [("bulk_commit_group", 5), ("bulk_wait_group_read", 4)] {
        let (matrix, input, expected) = columns_of_boxes(boxes);
        for outcome in run_with(name, 3, &input, Some(&matrix)) {
            assert_matrix(name, &outcome, &expected);
        }
    }
}

/// Bytes that the CTAs of two clusters send.
const SENT: [u32; 8] = [16, 1024, 512, 32, 1008, 16, 16, 1024];

/// Input of copies to the next CTA, and what comes where.
pub(super) fn sent() -> (Vec<u32>, Vec<u32>) {
    let words: Vec<Vec<u32>> = (0..SENT.len() as u64).map(|item| inputs::words(256, item)).collect();
    let (mut input, mut expected) = (Vec::new(), Vec::new());
    for (item, data) in words.iter().enumerate() {
        let before = item / 4 * 4 + (item + 3) % 4;
        input.extend(data);
        input.extend([SENT[item], SENT[before], 0, 0]);
        expected.extend(over(words[before][..SENT[before] as usize / 4].to_vec(), 256));
    }
    (input, expected)
}

/// Words that the CTAs of two clusters send, twice, and those that come.
pub(super) fn sent_twice() -> (Vec<u32>, Vec<u32>) {
    let words: Vec<Vec<u32>> = (0..8).map(|item| inputs::words(512, item)).collect();
    let before = |item: usize| item / 4 * 4 + (item + 3) % 4;
    let expected = (0..words.len()).flat_map(|item| words[before(item)].clone()).collect();
    (words.concat(), expected)
}

#[test]
fn a_place_is_written_again_when_all_have_read_it() {
    let (input, expected) = sent_twice();
    check("mbarrier_arrive_release_cluster", 8, &input, &expected);
}

#[test]
fn copy_to_cluster() {
    let (input, expected) = sent();
    check("copy_to_cluster", SENT.len(), &input, &expected);
}

/// Items of 16 rows each, and 16 rows that the entry gives back: input, output, and the map of the output.
pub(super) fn through_global(items: usize) -> (Vec<u32>, Vec<u32>, Matrix) {
    let matrix = Matrix {
        elements: None,
        rows: 32 * items as u32,
        columns: 64,
        pitch: 64,
        box_rows: 16,
        box_columns: 64,
        swizzle: Swizzle::B128,
    };
    let (mut input, mut expected) = (Vec::new(), Vec::new());
    for item in 0..items {
        let rows = rows(&matrix, item as u64);
        let words = Swizzle::None.image(&rows);
        input.extend(&words);
        input.extend([32 * item as u32, 0, 0, 0]);
        expected.extend(words);
        expected.extend(Swizzle::B128.image(&rows));
    }
    (input, expected, matrix)
}

#[test]
fn fence_proxy_async_global() {
    let (input, expected, matrix) = through_global(5);
    for outcome in run_with("fence_proxy_async_global", 5, &input, Some(&matrix)) {
        assert_words("fence_proxy_async_global", &outcome, &expected, |found, expected| found == expected);
    }
}
