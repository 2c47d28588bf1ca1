// The forward of a norm on channels-first data, by elements.

fn first_affine(scaled: Scaled, x_begin: u32, line: u32, index: u32) -> Affine {
    var m = 0.0;
    if CENTER {
        m = first_origin(x_begin, scaled.scale, line, index);
    }
    var cascade = Cascade();
    for (var c = line; c < params.cols; c += FIRST_STEPS * LINES) {
        var part = vec4<f32>();
        for (var column = c; column < min(params.cols, c + FIRST_STEPS * LINES); column += LINES) {
            let d = unpack(x_block(x_begin + column * params.inner))[0] * scaled.scale - m;
            part += vec4<f32>(d * d, d, 0.0, 0.0);
        }
        add_to_cascade(&cascade, part);
    }
    return affine_of(scaled, m, line_sum(cascade_sum(cascade), index));
}

fn run(workgroup: u32, index: u32) {
    let at = position_of(workgroup, index);
    let x_begin = params.x_start + at.begin.x;
    var scaled = unscaled();
    var affine: Affine;
    var again = false;
    loop {
        affine = first_affine(scaled, x_begin, at.line, index);
        if again || !any_of_workgroup(affine.stray && at.live, index) {
            break;
        }
        again = true;
        // Positions that do not stray keep their scale of 1, and get the same results again.
        let of_stray = first_scaled(x_begin, at.line, index);
        if affine.stray {
            scaled = of_stray;
        }
    }
    if at.live && at.line == 0u {
        save_statistics(at.row, affine);
    }
    write_position(at, x_begin, affine, index);
}
