;; WASI 0.1 for modules that need it, such as those of Go: what is there prints, counts time and gives random numbers, all else
;; answers with an error.
;;
;; Go collects garbage and looks at the clock while the host hands something over, where a component may call nothing outside of
;; itself: the adapter that belongs to wasmtime asks the host for the time then, and the call ends as a crash. Here the host is asked
;; once, as the guest starts; afterwards every reading adds a microsecond, as the host's own clock does without the grant `clock`, and
;; sleeping moves the clock by as much.
;;
;; Memory is the guest's own. Where the host writes a result, the first 16 bytes serve, and are put back.
(module
  (import "env" "memory" (memory 0))
  (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $get_stdout (result i32)))
  (import "wasi:cli/stderr@0.2.0" "get-stderr" (func $get_stderr (result i32)))
  (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
    (func $write_and_flush (param $stream i32) (param $at i32) (param $length i32) (param $result i32)))
  (import "wasi:clocks/wall-clock@0.2.0" "now" (func $now (param $result i32)))
  (import "wasi:random/random@0.2.0" "get-random-u64" (func $random (result i64)))

  ;; Streams that were asked for; 0 before.
  (global $stdout (mut i32) (i32.const 0))
  (global $stderr (mut i32) (i32.const 0))
  ;; Nanoseconds since the guest started, by its own readings, and the wall clock at that time.
  (global $elapsed (mut i64) (i64.const 0))
  (global $started (mut i64) (i64.const 0))
  (global $is_started (mut i32) (i32.const 0))

  ;; Errors of WASI 0.1: badf 8, io 29, notsup 58, notcapable 76.

  (func $stream (param $fd i32) (result i32)
    (if (i32.eq (local.get $fd) (i32.const 1))
      (then
        (if (i32.eqz (global.get $stdout)) (then (global.set $stdout (call $get_stdout))))
        (return (global.get $stdout))))
    (if (i32.eqz (global.get $stderr)) (then (global.set $stderr (call $get_stderr))))
    (global.get $stderr))

  ;; Writes at most 4096 bytes, which is what a stream takes at once; says whether that failed.
  (func $write_some (param $stream i32) (param $at i32) (param $length i32) (result i32)
    (local $first i64) (local $second i64) (local $failed i32)
    (local.set $first (i64.load (i32.const 0)))
    (local.set $second (i64.load (i32.const 8)))
    (call $write_and_flush (local.get $stream) (local.get $at) (local.get $length) (i32.const 0))
    (local.set $failed (i32.load8_u (i32.const 0)))
    (i64.store (i32.const 0) (local.get $first))
    (i64.store (i32.const 8) (local.get $second))
    (local.get $failed))

  (func $write_all (param $stream i32) (param $at i32) (param $length i32) (result i32)
    (local $part i32)
    (loop $more
      (if (i32.eqz (local.get $length)) (then (return (i32.const 0))))
      (local.set $part
        (select (local.get $length) (i32.const 4096) (i32.lt_u (local.get $length) (i32.const 4096))))
      (if (call $write_some (local.get $stream) (local.get $at) (local.get $part)) (then (return (i32.const 1))))
      (local.set $at (i32.add (local.get $at) (local.get $part)))
      (local.set $length (i32.sub (local.get $length) (local.get $part)))
      (br $more))
    (unreachable))

  (func (export "fd_write") (param $fd i32) (param $parts i32) (param $count i32) (param $written i32) (result i32)
    (local $stream i32) (local $length i32) (local $sum i32)
    (if (i32.gt_u (i32.sub (local.get $fd) (i32.const 1)) (i32.const 1)) (then (return (i32.const 8))))
    (local.set $stream (call $stream (local.get $fd)))
    (block $done
      (loop $more
        (br_if $done (i32.eqz (local.get $count)))
        (local.set $length (i32.load offset=4 (local.get $parts)))
        (if (call $write_all (local.get $stream) (i32.load (local.get $parts)) (local.get $length))
          (then (return (i32.const 29))))
        (local.set $sum (i32.add (local.get $sum) (local.get $length)))
        (local.set $parts (i32.add (local.get $parts) (i32.const 8)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $more)))
    (i32.store (local.get $written) (local.get $sum))
    (i32.const 0))

  (func $start_clock
    (local $first i64) (local $second i64)
    (if (global.get $is_started) (then (return)))
    (local.set $first (i64.load (i32.const 0)))
    (local.set $second (i64.load (i32.const 8)))
    (call $now (i32.const 0))
    (global.set $started
      (i64.add
        (i64.mul (i64.load (i32.const 0)) (i64.const 1000000000))
        (i64.load32_u (i32.const 8))))
    (i64.store (i32.const 0) (local.get $first))
    (i64.store (i32.const 8) (local.get $second))
    (global.set $is_started (i32.const 1)))

  (func (export "clock_time_get") (param $clock i32) (param $precision i64) (param $time i32) (result i32)
    (call $start_clock)
    (global.set $elapsed (i64.add (global.get $elapsed) (i64.const 1000)))
    (i64.store (local.get $time)
      (i64.add
        (global.get $elapsed)
        (select (i64.const 0) (global.get $started) (local.get $clock))))
    (i32.const 0))

  (func (export "clock_res_get") (param $clock i32) (param $resolution i32) (result i32)
    (i64.store (local.get $resolution) (i64.const 1000))
    (i32.const 0))

  ;; The first subscription to a clock happens at once; with none nothing ever would.
  (func (export "poll_oneoff") (param $asked i32) (param $told i32) (param $count i32) (param $events i32) (result i32)
    (local $until i64)
    (call $start_clock)
    (block $found
      (loop $next
        (if (i32.eqz (local.get $count)) (then (return (i32.const 58))))
        (br_if $found (i32.eqz (i32.load8_u offset=8 (local.get $asked))))
        (local.set $asked (i32.add (local.get $asked) (i32.const 48)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next)))
    (local.set $until (i64.load offset=24 (local.get $asked)))
    (if (i32.and (i32.load16_u offset=40 (local.get $asked)) (i32.const 1))
      (then
        ;; A point in time, of the wall clock or of the other one.
        (if (i32.eqz (i32.load offset=16 (local.get $asked)))
          (then (local.set $until (i64.sub (local.get $until) (global.get $started)))))
        (if (i64.lt_s (local.get $until) (global.get $elapsed))
          (then (local.set $until (global.get $elapsed)))))
      (else (local.set $until (i64.add (local.get $until) (global.get $elapsed)))))
    (global.set $elapsed (local.get $until))
    (i64.store (local.get $told) (i64.load (local.get $asked)))
    (i64.store offset=8 (local.get $told) (i64.const 0))
    (i64.store offset=16 (local.get $told) (i64.const 0))
    (i64.store offset=24 (local.get $told) (i64.const 0))
    (i32.store (local.get $events) (i32.const 1))
    (i32.const 0))

  (func (export "random_get") (param $at i32) (param $length i32) (result i32)
    (local $bits i64)
    (block $done
      (loop $eight
        (br_if $done (i32.eqz (local.get $length)))
        (local.set $bits (call $random))
        (if (i32.ge_u (local.get $length) (i32.const 8))
          (then
            (i64.store (local.get $at) (local.get $bits))
            (local.set $at (i32.add (local.get $at) (i32.const 8)))
            (local.set $length (i32.sub (local.get $length) (i32.const 8)))
            (br $eight)))
        (loop $one
          (i64.store8 (local.get $at) (local.get $bits))
          (local.set $bits (i64.shr_u (local.get $bits) (i64.const 8)))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (local.set $length (i32.sub (local.get $length) (i32.const 1)))
          (br_if $one (local.get $length)))))
    (i32.const 0))

  (func $proc_exit (export "proc_exit") (param $status i32)
    (unreachable))
  (func (export "proc_raise") (param $signal i32) (result i32)
    (i32.const 58))
  (func (export "sched_yield") (result i32)
    (i32.const 0))

  ;; No argument, no variable.
  (func $no_texts (param $count i32) (param $bytes i32) (result i32)
    (i32.store (local.get $count) (i32.const 0))
    (i32.store (local.get $bytes) (i32.const 0))
    (i32.const 0))
  (export "args_sizes_get" (func $no_texts))
  (export "environ_sizes_get" (func $no_texts))
  (func $nothing (param $texts i32) (param $bytes i32) (result i32)
    (i32.const 0))
  (export "args_get" (func $nothing))
  (export "environ_get" (func $nothing))

  ;; Descriptors 0 to 2 are there, no directory and no file is.
  (func $standard (param $fd i32) (result i32)
    (select (i32.const 0) (i32.const 8) (i32.lt_u (local.get $fd) (i32.const 3))))
  (func (export "fd_fdstat_get") (param $fd i32) (param $stat i32) (result i32)
    (if (call $standard (local.get $fd)) (then (return (i32.const 8))))
    ;; A character device with all rights.
    (i64.store (local.get $stat) (i64.const 2))
    (i64.store offset=8 (local.get $stat) (i64.const -1))
    (i64.store offset=16 (local.get $stat) (i64.const -1))
    (i32.const 0))
  (func (export "fd_filestat_get") (param $fd i32) (param $stat i32) (result i32)
    (if (call $standard (local.get $fd)) (then (return (i32.const 8))))
    (memory.fill (local.get $stat) (i32.const 0) (i32.const 64))
    (i32.store8 offset=16 (local.get $stat) (i32.const 2))
    (i32.const 0))
  (func (export "fd_fdstat_set_flags") (param $fd i32) (param $flags i32) (result i32)
    (call $standard (local.get $fd)))
  ;; Standard input is empty.
  (func (export "fd_read") (param $fd i32) (param $parts i32) (param $count i32) (param $read i32) (result i32)
    (if (local.get $fd) (then (return (i32.const 8))))
    (i32.store (local.get $read) (i32.const 0))
    (i32.const 0))
  (func $close (export "fd_close") (param $fd i32) (result i32)
    (call $standard (local.get $fd)))
  (export "fd_datasync" (func $close))
  (export "fd_sync" (func $close))
  (func (export "fd_advise") (param i32 i64 i64 i32) (result i32)
    (i32.const 8))
  (func (export "fd_allocate") (param i32 i64 i64) (result i32)
    (i32.const 8))
  (func (export "fd_fdstat_set_rights") (param i32 i64 i64) (result i32)
    (i32.const 8))
  (func (export "fd_filestat_set_size") (param i32 i64) (result i32)
    (i32.const 8))
  (func (export "fd_filestat_set_times") (param i32 i64 i64 i32) (result i32)
    (i32.const 8))
  (func $no_positions (param i32 i32 i32 i64 i32) (result i32)
    (i32.const 8))
  (export "fd_pread" (func $no_positions))
  (export "fd_pwrite" (func $no_positions))
  (func (export "fd_prestat_get") (param i32 i32) (result i32)
    (i32.const 8))
  (func (export "fd_prestat_dir_name") (param i32 i32 i32) (result i32)
    (i32.const 8))
  (func (export "fd_readdir") (param i32 i32 i32 i64 i32) (result i32)
    (i32.const 8))
  (func (export "fd_renumber") (param i32 i32) (result i32)
    (i32.const 8))
  (func (export "fd_seek") (param i32 i64 i32 i32) (result i32)
    (i32.const 8))
  (func (export "fd_tell") (param i32 i32) (result i32)
    (i32.const 8))

  ;; Nothing may be opened.
  (func $no_path (param i32 i32 i32) (result i32)
    (i32.const 76))
  (export "path_create_directory" (func $no_path))
  (export "path_remove_directory" (func $no_path))
  (export "path_unlink_file" (func $no_path))
  (func (export "path_filestat_get") (param i32 i32 i32 i32 i32) (result i32)
    (i32.const 76))
  (func (export "path_filestat_set_times") (param i32 i32 i32 i32 i64 i64 i32) (result i32)
    (i32.const 76))
  (func (export "path_link") (param i32 i32 i32 i32 i32 i32 i32) (result i32)
    (i32.const 76))
  (func (export "path_open") (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)
    (i32.const 76))
  (func (export "path_readlink") (param i32 i32 i32 i32 i32 i32) (result i32)
    (i32.const 76))
  (func (export "path_rename") (param i32 i32 i32 i32 i32 i32) (result i32)
    (i32.const 76))
  (func (export "path_symlink") (param i32 i32 i32 i32 i32) (result i32)
    (i32.const 76))
  (func (export "sock_accept") (param i32 i32 i32) (result i32)
    (i32.const 58))
  (func (export "sock_recv") (param i32 i32 i32 i32 i32 i32) (result i32)
    (i32.const 58))
  (func (export "sock_send") (param i32 i32 i32 i32 i32) (result i32)
    (i32.const 58))
  (func (export "sock_shutdown") (param i32 i32) (result i32)
    (i32.const 58)))
