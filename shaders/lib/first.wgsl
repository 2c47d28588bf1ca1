// Channels-first data: 32 lanes lie along `inner`, where each position is a row of its own, and the eight lines of lanes
// take turns with its columns.

const ALONG: u32 = 32u;
const LINES: u32 = 8u;

struct Position {
    // The element of its first column, before the start of a tensor is added: of x and of y, as in `begins`.
    begin: vec2<u32>,
    // The index of its statistics.
    row: u32,
    // Where its gamma and beta begin.
    columns: u32,
    line: u32,
    live: bool,
}

// Lanes without a position go along on the first one of the tile, and write nothing.
fn position_of(tile: u32, index: u32) -> Position {
    let tiles = (params.inner + ALONG - 1u) / ALONG;
    let n = tile / tiles;
    let s = (tile - n * tiles) * ALONG + index % ALONG;
    let live = s < params.inner && n < params.rows;
    let there = begins(n) + select(s - index % ALONG, s, live);
    let begin = select(vec2<u32>(), there, n < params.rows);
    return Position(begin, n * params.inner + s, columns_of(n), index / ALONG, live);
}
