// The sums of positions of channels-first data.

// Terms of a sum that are added up before it is folded.
const FIRST_STEPS: u32 = 16u;

// Sums over the lines of a position; each of its lanes gets them.
fn line_sum(value: vec4<f32>, index: u32) -> vec4<f32> {
    workgroupBarrier();
    scratch[index] = value;
    workgroupBarrier();
    var total = scratch[index % ALONG];
    for (var line = 1u; line < LINES; line++) {
        total += scratch[line * ALONG + index % ALONG];
    }
    return total;
}

fn first_origin(x_begin: u32, scale: f32, line: u32, index: u32) -> f32 {
    let first = unpack(x_block(x_begin))[0] * scale;
    var cascade = Cascade();
    for (var c = line; c < params.cols; c += FIRST_STEPS * LINES) {
        var part = 0.0;
        for (var at = c; at < min(params.cols, c + FIRST_STEPS * LINES); at += LINES) {
            part += unpack(x_block(x_begin + at * params.inner))[0] * scale - first;
        }
        add_to_cascade(&cascade, vec4<f32>(part, 0.0, 0.0, 0.0));
    }
    return first + average(line_sum(cascade_sum(cascade), index).x);
}

// How a position that strays is scaled.
fn first_scaled(x_begin: u32, line: u32, index: u32) -> Scaled {
    let first = unpack(x_block(x_begin))[0];
    var cascade = Cascade();
    for (var c = line; c < params.cols; c += LINES) {
        add_to_cascade(&cascade, sizes_of(unpack(x_block(x_begin + c * params.inner)), 1u, first));
    }
    return scaled_by(line_sum(cascade_sum(cascade), index));
}
