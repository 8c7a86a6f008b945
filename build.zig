// SPDX-License-Identifier: Apache-2.0
//
// The whole build: the binary, its unit tests, stand-ins, benches, fuzzers and compile_commands.json.
//
// The list of sources is not written anywhere: every .c below src/ belongs to the program. All but
// src/main.c form a static library, which the program, each unit test and each bench link. Tools
// that cannot be built by Zig (AddressSanitizer, libFuzzer, clang-tidy, cppcheck) take the same
// list and the same flags from `zig build compdb`.

const std = @import("std");
const zon = @import("build.zig.zon");

const warnings = [_][]const u8{
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Wmissing-prototypes",
    "-Wstrict-prototypes",
    "-Wformat=2",
    "-Wvla",
    "-Werror",
};

// -fno-strict-aliasing is not given: the code keeps the rules. Frame pointers stay, so that perf
// and bpftrace can walk the stacks of a release build.
const language = [_][]const u8{
    "-std=gnu11",
    "-D_GNU_SOURCE",
    "-Isrc",
    "-fno-common",
    "-fno-omit-frame-pointer",
};

// Each entry: the names that one library's pkg-config file has in different releases.
const libraries = [_][]const []const u8{
    &.{"libevent_core"},
    &.{ "msgpack", "msgpack-c", "msgpackc" },
    &.{"libzstd"},
    &.{"libcgroup"},
    &.{"libarchive"},
    &.{"json-c"},
    &.{"sqlite3"},
    &.{"libpcre2-8"},
    &.{"libcrypto"},
    &.{"libseccomp"},
    &.{"libcap"},
};

const Flags = struct { cflags: []const []const u8, libs: []const []const u8 };

pub fn build(b: *std.Build) !void {
    // Any machine of the architecture, not only this one: packages are built with it, and the
    // system tests also run in an emulator.
    const target = b.standardTargetOptions(.{ .default_target = .{ .cpu_model = .baseline } });
    // Safe is the default because it keeps assertions, stack protector and _FORTIFY_SOURCE at the
    // speed of -O2; a daemon that runs as root wants them.
    const optimize = b.option(std.builtin.OptimizeMode, "optimize", "Debug, ReleaseSafe (default), ReleaseFast, ReleaseSmall") orelse
        .ReleaseSafe;
    const strip = b.option(bool, "strip", "Leave out debug information (default: in release builds; " ++
        "the daemon runs from a copy of its binary in memory, which this keeps small)") orelse (optimize != .Debug);
    const criu = b.option([]const u8, "criu", "criu program that is used unless --criu says otherwise (default: criu)") orelse "criu";
    const seconds = b.option(u32, "fuzz-seconds", "How long each fuzz target runs (default: 5)") orelse 5;
    const filter = b.option([]const u8, "test-filter", "Only unit tests whose name contains this");

    const deps = try probeLibraries(b, &libraries);
    const sources = try list(b, "src", "", ".c");

    var defines: std.ArrayList([]const u8) = .empty;
    try defines.append(b.allocator, b.fmt("-DDAVIT_VERSION=\"{s}\"", .{zon.version}));
    try defines.append(b.allocator, b.fmt("-DDAVIT_CRIU_DEFAULT=\"{s}\"", .{criu}));
    const cflags = try std.mem.concat(b.allocator, []const u8, &.{ &language, defines.items, deps.cflags, &warnings });
    const revision = try std.mem.concat(b.allocator, []const u8, &.{
        cflags,
        &.{b.fmt("-DDAVIT_REVISION=\"{s}\"", .{gitRevision(b)})},
    });

    const options: std.Build.Module.CreateOptions = .{
        .target = target,
        .optimize = optimize,
        .link_libc = true,
        .strip = strip,
        .pic = true,
        .omit_frame_pointer = false,
        // Undefined behaviour ends a debug build with a report. Release builds do not trap on it:
        // a check that fires in a daemon takes other people's containers along. The sanitizers'
        // lane of tools/check runs everything under ASan and UBSan.
        .sanitize_c = if (optimize == .Debug) .full else .off,
    };

    // The library: all rooms.
    const lib_module = b.createModule(options);
    var main_source: ?[]const u8 = null;
    for (sources) |source| {
        if (std.mem.eql(u8, source, "src/main.c")) {
            main_source = source;
            continue;
        }
        addSource(b, lib_module, source, cflags, revision);
    }
    const lib = b.addLibrary(.{ .name = "davit", .root_module = lib_module, .use_llvm = true });
    b.getInstallStep().dependOn(&lib.step);

    // The program.
    if (main_source) |source| {
        const module = b.createModule(options);
        addSource(b, module, source, cflags, revision);
        linkAll(module, lib, deps.libs);
        const exe = b.addExecutable(.{ .name = "davit", .root_module = module, .use_llvm = true, .use_lld = true });
        exe.pie = true;
        exe.link_gc_sections = true;
        b.installArtifact(exe);
        try installShare(b, exe);
    }

    // Unit tests: one program a module.
    const test_step = b.step("test", "Build and run the unit tests");
    const unit_step = b.step("unit", "Build the unit tests into PREFIX/test without running them");
    const cmocka = probeLibraries(b, &.{&.{"cmocka"}}) catch null;
    const units = try list(b, "tests/unit", "test_", ".c");
    for (units) |source| {
        const name = std.fs.path.stem(source);
        if (filter) |text| if (std.mem.indexOf(u8, name, text) == null) continue;
        const c = cmocka orelse {
            test_step.dependOn(&b.addFail("cmocka is not installed: run tools/setup --for check").step);
            break;
        };
        const exe = try addProgram(b, name, source, options, lib, deps, cflags, c);
        unit_step.dependOn(&b.addInstallArtifact(exe, .{ .dest_dir = .{ .override = .{ .custom = "test" } } }).step);
        const run = b.addRunArtifact(exe);
        run.setCwd(b.path(""));
        run.stdio = .inherit;
        run.has_side_effects = true;
        test_step.dependOn(&run.step);
    }

    // Stand-ins for programs that davit starts: they need nothing but libc.
    const fakes = try list(b, "tests/fake", "fake_", ".c");
    for (fakes) |source| {
        const module = b.createModule(options);
        module.addCSourceFile(.{ .file = b.path(source), .flags = try std.mem.concat(b.allocator, []const u8, &.{ &language, &warnings }) });
        const exe = b.addExecutable(.{ .name = std.fs.path.stem(source), .root_module = module, .use_llvm = true, .use_lld = true });
        const install = b.addInstallArtifact(exe, .{ .dest_dir = .{ .override = .{ .custom = "test" } } });
        unit_step.dependOn(&install.step);
        test_step.dependOn(&install.step);
    }

    // Benches: one program a file, into PREFIX/bin.
    const bench_step = b.step("bench", "Build the benches into PREFIX/bin");
    const benches = try list(b, "bench", "", ".c");
    for (benches) |source| {
        const exe = try addProgram(b, std.fs.path.stem(source), source, options, lib, deps, cflags, null);
        bench_step.dependOn(&b.addInstallArtifact(exe, .{}).step);
    }

    // compile_commands.json, and the linker's flags for those who build from it.
    const fuzzers = try list(b, "tests/fuzz", "fuzz_", ".c");
    const files = try std.mem.concat(b.allocator, []const u8, &.{ sources, units, benches, fuzzers, fakes });
    const compdb = b.addUpdateSourceFiles();
    compdb.addBytesToSource(try compileCommands(b, files, cflags, revision), "compile_commands.json");
    compdb.addBytesToSource(try linkFlags(b, deps, cmocka), "build/link-flags");
    const compdb_step = b.step("compdb", "Write compile_commands.json");
    compdb_step.dependOn(&compdb.step);

    const fuzz = b.addSystemCommand(&.{ "tools/lane", "fuzz", "--seconds", b.fmt("{d}", .{seconds}) });
    fuzz.setCwd(b.path(""));
    fuzz.stdio = .inherit;
    fuzz.has_side_effects = true;
    fuzz.step.dependOn(&compdb.step);
    const fuzz_step = b.step("fuzz", "Build the fuzz targets with clang and run each for a while");
    fuzz_step.dependOn(&fuzz.step);
}

// System libraries are given to programs, not to the library: an archive would take them in as members.
fn linkAll(module: *std.Build.Module, lib: *std.Build.Step.Compile, libs: []const []const u8) void {
    module.linkLibrary(lib);
    for (libs) |name| module.linkSystemLibrary(name, .{ .use_pkg_config = .no });
}

// A program of one source file and the library.
fn addProgram(
    b: *std.Build,
    name: []const u8,
    source: []const u8,
    options: std.Build.Module.CreateOptions,
    lib: *std.Build.Step.Compile,
    deps: Flags,
    cflags: []const []const u8,
    extra: ?Flags,
) !*std.Build.Step.Compile {
    const module = b.createModule(options);
    var flags = cflags;
    if (extra) |e| {
        flags = try std.mem.concat(b.allocator, []const u8, &.{ cflags, e.cflags });
        for (e.libs) |l| module.linkSystemLibrary(l, .{ .use_pkg_config = .no });
    }
    module.addCSourceFile(.{ .file = b.path(source), .flags = flags });
    linkAll(module, lib, deps.libs);
    return b.addExecutable(.{ .name = name, .root_module = module, .use_llvm = true, .use_lld = true });
}

fn addSource(b: *std.Build, module: *std.Build.Module, source: []const u8, cflags: []const []const u8, revision: []const []const u8) void {
    const flags = if (namesRevision(b, source)) revision else cflags;
    module.addCSourceFile(.{ .file = b.path(source), .flags = flags });
}

// The revision changes with each commit; only the files that name it are compiled with it.
fn namesRevision(b: *std.Build, source: []const u8) bool {
    const text = b.build_root.handle.readFileAlloc(b.graph.io, source, b.allocator, .limited(4 << 20)) catch "";
    return std.mem.indexOf(u8, text, "DAVIT_REVISION") != null;
}

// The systemd unit, manual pages and completions, below PREFIX.
fn installShare(b: *std.Build, exe: *std.Build.Step.Compile) !void {
    const io = b.graph.io;
    if (b.build_root.handle.readFileAlloc(io, "share/davit.service.in", b.allocator, .limited(1 << 20))) |text| {
        const unit = try std.mem.replaceOwned(u8, b.allocator, text, "@prefix@", b.install_prefix);
        const file = b.addWriteFiles().add("davit.service", unit);
        b.getInstallStep().dependOn(&b.addInstallFile(file, "lib/systemd/system/davit.service").step);
    } else |_| {}

    for ([_][]const u8{ ".1", ".5", ".8" }) |section| {
        for (try list(b, "docs/man", "", section)) |page| {
            const dest = b.fmt("share/man/man{s}/{s}", .{ section[1..], std.fs.path.basename(page) });
            b.getInstallStep().dependOn(&b.addInstallFile(b.path(page), dest).step);
        }
    }

    // The program writes its own completions, from the tables that it parses its arguments with.
    b.build_root.handle.access(io, "src/cli/completion.c", .{}) catch return;
    for ([_][2][]const u8{
        .{ "bash", "share/bash-completion/completions/davit" },
        .{ "zsh", "share/zsh/site-functions/_davit" },
        .{ "fish", "share/fish/vendor_completions.d/davit.fish" },
    }) |shell| {
        const run = b.addRunArtifact(exe);
        run.addArgs(&.{ "completion", shell[0] });
        b.getInstallStep().dependOn(&b.addInstallFile(run.captureStdOut(.{}), shell[1]).step);
    }
}

// Asks pkg-config for each library under the names that it may have.
fn probeLibraries(b: *std.Build, wanted: []const []const []const u8) !Flags {
    var cflags: std.ArrayList([]const u8) = .empty;
    var libs: std.ArrayList([]const u8) = .empty;
    var missing: std.ArrayList(u8) = .empty;
    for (wanted) |names| {
        const text = for (names) |name| {
            var code: u8 = 0;
            break b.runAllowFail(&.{ "pkg-config", "--cflags", "--libs", name }, &code, .ignore) catch |err| switch (err) {
                error.FileNotFound => std.process.fatal("pkg-config is not installed: run tools/setup", .{}),
                else => continue,
            };
        } else {
            try missing.print(b.allocator, " {s}", .{names[0]});
            continue;
        };
        var words = std.mem.tokenizeAny(u8, text, " \t\r\n");
        while (words.next()) |word| {
            if (std.mem.startsWith(u8, word, "-l")) {
                try libs.append(b.allocator, word[2..]);
            } else if (std.mem.startsWith(u8, word, "-I")) {
                // A system header's own warnings are not ours.
                try cflags.append(b.allocator, b.fmt("-isystem{s}", .{word[2..]}));
            } else if (std.mem.startsWith(u8, word, "-D")) {
                try cflags.append(b.allocator, word);
            }
        }
    }
    if (missing.items.len != 0) {
        if (wanted.len == 1) return error.Missing;
        std.process.fatal("pkg-config finds no{s}: run tools/setup", .{missing.items});
    }
    return .{ .cflags = cflags.items, .libs = libs.items };
}

fn gitRevision(b: *std.Build) []const u8 {
    var code: u8 = 0;
    const root = b.build_root.path orelse ".";
    const text = b.runAllowFail(&.{ "git", "-C", root, "describe", "--always", "--dirty", "--abbrev=12" }, &code, .ignore) catch
        return "unknown";
    return std.mem.trim(u8, text, " \r\n");
}

// Paths of the files below `folder` (relative to the checkout, sorted) with this prefix and suffix.
fn list(b: *std.Build, folder: []const u8, prefix: []const u8, suffix: []const u8) ![]const []const u8 {
    const io = b.graph.io;
    var found: std.ArrayList([]const u8) = .empty;
    var dir = b.build_root.handle.openDir(io, folder, .{ .iterate = true }) catch |err| switch (err) {
        error.FileNotFound => return found.items,
        else => return err,
    };
    defer dir.close(io);
    var walker = try dir.walk(b.allocator);
    defer walker.deinit();
    while (try walker.next(io)) |entry| {
        if (entry.kind != .file) continue;
        if (!std.mem.startsWith(u8, entry.basename, prefix) or !std.mem.endsWith(u8, entry.basename, suffix)) continue;
        if (entry.basename[0] == '.') continue;
        try found.append(b.allocator, b.fmt("{s}/{s}", .{ folder, entry.path }));
    }
    std.mem.sort([]const u8, found.items, {}, struct {
        fn before(_: void, x: []const u8, y: []const u8) bool {
            return std.mem.order(u8, x, y) == .lt;
        }
    }.before);
    return found.items;
}

fn compileCommands(b: *std.Build, files: []const []const u8, cflags: []const []const u8, revision: []const []const u8) ![]const u8 {
    const Entry = struct { directory: []const u8, file: []const u8, arguments: []const []const u8 };
    const root = try b.build_root.handle.realPathFileAlloc(b.graph.io, ".", b.allocator);
    var entries: std.ArrayList(Entry) = .empty;
    for (files) |file| {
        const flags = if (namesRevision(b, file)) revision else cflags;
        const arguments = try std.mem.concat(b.allocator, []const u8, &.{ &.{"cc"}, flags, &.{ "-c", file } });
        try entries.append(b.allocator, .{ .directory = root, .file = file, .arguments = arguments });
    }
    return b.fmt("{f}\n", .{std.json.fmt(entries.items, .{ .whitespace = .indent_1 })});
}

fn linkFlags(b: *std.Build, deps: Flags, cmocka: ?Flags) ![]const u8 {
    var text: std.ArrayList(u8) = .empty;
    for (deps.libs) |lib| try text.print(b.allocator, "-l{s} ", .{lib});
    if (cmocka) |c| for (c.libs) |lib| try text.print(b.allocator, "-l{s} ", .{lib});
    try text.appendSlice(b.allocator, "-lpthread\n");
    return text.items;
}
