#!/usr/bin/perl
# A worker of the backend `identity`, written from docs/PROTOCOL.md: its outputs are its inputs.
# An artifact is a file {"identity": NUMBER_OF_INPUTS}. `script VERB FOLDER` executes scripts.
use strict;
use warnings;
no warnings 'portable';    # 64-bit constants
use Fcntl qw(:flock :DEFAULT);
use IPC::Open2 qw(open2);
use JSON::PP ();
use MIME::Base64 qw(encode_base64);
use POSIX qw(:sys_wait_h);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC CLOCK_REALTIME sleep);

my $json = JSON::PP->new->utf8->canonical;
my %PACK = (
    float32 => ['f<', 4], float64 => ['d<', 8], bool  => ['C', 1],  uint8  => ['C', 1],
    int8    => ['c', 1],  int16   => ['s<', 2], int32 => ['l<', 4], int64  => ['q<', 8],
);
my @MACHINE = qw(hostname os kernel libc architecture hypervisor cpu_model cpu_features caches
    sockets physical_cores logical_cpus smt memory_bytes);
my @CONDITIONS = qw(affinity cpu_quota_milli usable_cpus governor turbo frequency_khz
    temperature_mc memory_available_bytes load_1m_milli throttled_ns steal_ns on_battery);
my @held;       # open files whose locks last until the program ends
my $session;    # what `open` has made

sub now_ns { return int(clock_gettime(CLOCK_MONOTONIC) * 1e9) }
sub unix_ns { return int(clock_gettime(CLOCK_REALTIME) * 1e9) }
sub failed { my ($stage, $kind, $message) = @_; return {type => 'failed', stage => $stage, kind => $kind, message => $message} }
sub refused { return {type => 'refused', message => $_[0]} }
sub float32 { return unpack('f', pack('f', $_[0])) }
sub slurp { my ($path) = @_; open(my $file, '<:raw', $path) or return; local $/; return scalar <$file> }

# --- Inputs ---------------------------------------------------------------------------------------

sub bits {
    my ($seed, $k, $i) = @_;
    my $z;
    { use integer; $z = (($seed << 32) + ($k << 56) + $i) * 0x9E3779B97F4A7C15; }
    $z ^= $z >> 30;
    { use integer; $z = $z * 0xBF58476D1CE4E5B9; }
    $z ^= $z >> 27;
    { use integer; $z = $z * 0x94D049BB133111EB; }
    return $z ^ ($z >> 31);
}

sub element {
    my ($spec, $seed, $k, $i) = @_;
    my $content = $spec->{content};
    my $real = $spec->{dtype} =~ /^float/;
    if (defined $content && $content =~ /^random:(\d+)$/) { ($seed, $content) = ($1, undef) }
    if (!defined $content) {
        my $z = bits($seed, $k, $i);
        return $z >> 63 if !$real;
        return float32((($z >> 40) * 2**-24 * 2 - 1) * float32(sqrt 3));
    }
    if ($content =~ /^([^:]+):([^:]+)$/) {
        my ($low, $high, $z) = ($1, $2, bits($seed, $k, $i));
        return $low + $z % ($high - $low + 1) if !$real;
        ($low, $high) = (float32($low), float32($high));
        return float32(float32(($z >> 40) * 2**-24 * float32($high - $low)) + $low);
    }
    my @values = split /,/, $content;
    return @values > 1 ? $values[$i] : $values[0];
}

# The bytes of each array in an .npz file: a zip archive, not compressed.
sub arrays {
    my ($path) = @_;
    my $zip = slurp($path) // die failed('open', 'error', "$path cannot be read: $!");
    my $end = rindex($zip, "PK\5\6");
    my ($count, undef, $at) = unpack('vVV', substr($zip, $end + 10, 10));
    my %found;
    for (1 .. $count) {
        my ($size, $name, $extra, $comment, $offset) = unpack('V v v v x8 V', substr($zip, $at + 24, 22));
        my $key = substr($zip, $at + 46, $name) =~ s/\.npy$//r;
        my ($local_name, $local_extra) = unpack('vv', substr($zip, $offset + 26, 4));
        my $npy = substr($zip, $offset + 30 + $local_name + $local_extra, $size);
        $found{$key} = substr($npy, 10 + unpack('v', substr($npy, 8, 2)));
        $at += 46 + $name + $extra + $comment;
    }
    return \%found;
}

sub inputs {
    my ($request) = @_;
    my $stored = $request->{inputs} ? arrays($request->{inputs}) : {};
    my @made;
    my $k = 0;
    for my $spec (@{$request->{artifact}{inputs}}) {
        my ($letter, $size) = @{$PACK{$spec->{dtype}} // die refused("inputs of $spec->{dtype} are unknown")};
        my $count = 1;
        $count *= $_ for @{$spec->{shape}};
        my $data =
            ($spec->{content} // '') =~ /^sha256:/
            ? $stored->{$spec->{name}} // die refused("the array of $spec->{name} is missing")
            : join('', map { pack($letter, element($spec, $request->{seed}, $k, $_)) } 0 .. $count - 1);
        push @made, {dtype => $spec->{dtype}, shape => $spec->{shape}, data => $data};
        $k++;
    }
    return \@made;
}

# --- One session ----------------------------------------------------------------------------------

sub open_session {
    my ($request) = @_;
    undef $session;
    die refused("backend $request->{backend} is unknown") if $request->{backend} ne 'identity';
    die refused("backend identity has no option $_") for sort keys %{$request->{extra}};
    die failed('open', 'unavailable', 'CPUs cannot be chosen here') if $request->{pinned} || $request->{cpus};
    my $inputs = inputs($request);
    my $start = now_ns();
    my $text = slurp($request->{path}) // die failed('open', 'error', "$request->{path}: $!");
    my $model = eval { $json->decode($text) } // die failed('open', 'error', "$request->{path} is not JSON");
    die refused("the file has another number of inputs") if $model->{identity} != @$inputs;
    $session = {inputs => $inputs, opened_ns => now_ns()};
    return {
        type => 'opened', load_ns => $session->{opened_ns} - $start, version => '1.0',
        settings => {threads => '1'}, placement => {units => {CPU => scalar @$inputs}, known => 'proven'},
    };
}

sub run_once { $session->{outputs} = [map { $_->{data} } @{$session->{inputs}}]; return }

sub time_block {
    my ($request) = @_;
    my ($calls, $settle, $period) = ($request->{calls}, $request->{settle} // 0, $request->{period_ns});
    die failed('time', 'error', 'no session is open') if !$session;
    die refused("a block of $calls calls, $settle of them discarded") if $settle < 0 || $settle > $calls;
    my $begun = now_ns();
    my @samples;
    for my $i (0 .. $calls - 1) {
        my $wait = $period ? $begun + $i * $period - now_ns() : 0;
        sleep($wait / 1e9) if $wait > 0;
        my $start = now_ns();
        run_once();
        push @samples, now_ns() - $start;
    }
    return {type => 'timed', start_ns => $begun - $session->{opened_ns}, sample_ns => \@samples};
}

sub outputs {
    die failed('outputs', 'error', 'no inference has run') if !$session || !$session->{outputs};
    my ($peak) = (slurp('/proc/self/status') // '') =~ /^VmHWM:\s+(\d+)/m;
    my @tensors = map { {dtype => $_->{dtype}, shape => $_->{shape}, data => encode_base64($_->{data}, '')} }
        @{$session->{inputs}};
    return {type => 'outputs_given', tensors => \@tensors, peak_rss_bytes => $peak ? $peak * 1024 : undef};
}

# --- The machine and other workers ----------------------------------------------------------------

sub capability {
    my ($name) = @_;
    return $name eq 'identity'
        ? {available => JSON::PP::true, version => '1.0', units => ['CPU']}
        : {available => JSON::PP::false, reason => "backend $name is unknown", hint => undef};
}

sub has_variable {
    my ($pid, $name, $value) = @_;
    return grep { $_ eq "$name=$value" } split /\0/, slurp("/proc/$pid/environ") // '';
}

sub end_all_with {
    my ($name) = @_;
    my $value = $ENV{$name} // return;
    for my $pid (map { m{(\d+)$} } glob '/proc/[0-9]*') {
        kill 'KILL', $pid if $pid != $$ && has_variable($pid, $name, $value);
    }
    return;
}

sub send_signal {
    my ($request) = @_;
    my ($pid, $number) = ($request->{pid}, {stop => 'STOP', continue => 'CONT', kill => 'KILL'}->{$request->{signal}});
    return {type => 'signaled', existed => JSON::PP::false} if !-e "/proc/$pid";
    die refused("process $pid is not of this harness")
        if !has_variable($pid, 'LATBENCH_HARNESS', $ENV{LATBENCH_HARNESS} // '');
    return {type => 'signaled', existed => kill($number, -$pid) ? JSON::PP::true : JSON::PP::false};
}

sub take_lock {
    my ($path, $owner) = @_;
    sysopen(my $file, $path, O_RDWR | O_CREAT) or die failed('probe', 'error', "$path: $!");
    if (!flock($file, LOCK_EX | LOCK_NB)) {
        my $other = <$file> // 'another program';
        die failed('probe', 'unavailable', "the device is in use by $other");
    }
    truncate $file, 0;
    syswrite $file, $owner;
    push @held, $file;
    return;
}

my %ANSWER = (
    open => \&open_session,
    time => \&time_block,
    outputs => \&outputs,
    time_operators => sub {
        die failed('time', 'error', 'no session is open') if !$session;
        return {type => 'operators_timed', profile => undef};
    },
    close => sub { return {type => 'closed'} },
    machine => sub { return {type => 'machine_told', machine => {map { $_ => undef } @MACHINE}, software => undef} },
    conditions => sub {
        my %values = map { $_ => undef } @CONDITIONS;
        return {type => 'conditions_told', conditions => {%values, unix_ns => unix_ns()}, oom_kills => undef};
    },
    capabilities => sub {
        my %found = map { $_ => capability($_) } @{$_[0]{backends}};
        return {type => 'capabilities_told', backends => \%found};
    },
    signal => \&send_signal,
    reserve => sub { take_lock($_[0]{path}, $_[0]{owner}); return {type => 'reserved'} },
);

sub answer {
    my ($request) = @_;
    my $response = eval { $ANSWER{$request->{type}}->($request) } // $@;
    return ref $response ? $response : failed('probe', 'error', "$response");
}

# --- Lines ----------------------------------------------------------------------------------------

# Passes the input on until it ends or is silent for too long, then ends the worker: a process that
# executes an inference cannot see that.
sub watch {
    my ($to, $worker) = @_;
    my $silence = $ENV{LATBENCH_OWNER_TIMEOUT_S} || 9**9;
    my $heard = now_ns();
    while (1) {
        vec(my $input = '', 0, 1) = 1;
        if (select($input, undef, undef, 0.2)) {
            sysread(STDIN, my $data, 65536) or last;
            $heard = now_ns();
            print {$to} $data;
        }
        last if now_ns() - $heard > $silence * 1e9;
        exit 0 if getppid() != $worker;
    }
    end_all_with('LATBENCH_WORKER');
    end_all_with('LATBENCH_HARNESS') if $ENV{LATBENCH_OWNER_TIMEOUT_S};
    kill 'KILL', $worker;
    exit 0;
}

sub serve {
    open(my $out, '>&', \*STDOUT) or die $!;
    open(STDOUT, '>&', \*STDERR) or die $!;
    pipe(my $requests, my $passed_on) or die $!;
    my $worker = $$;
    my $watcher = fork // die $!;
    $_->autoflush(1) for $out, $passed_on;
    if (!$watcher) { close $out; close $requests; watch($passed_on, $worker) }
    close $passed_on;
    my $say = sub { print {$out} $json->encode($_[0]), "\n" };
    $say->({type => 'hello', protocol => 2, program => 'identity-worker', version => '1.0', pid => $$});
    while (defined(my $line = <$requests>)) {
        next if $line !~ /\S/;
        my $request = eval { $json->decode($line) };
        last if ref $request ne 'HASH' || !$ANSWER{$request->{type} // ''};
        my $response = answer($request);
        $say->($response);
        if ($response->{type} eq 'closed') { kill 'KILL', $watcher; POSIX::_exit(0) }
    }
    kill 'KILL', $watcher;
    POSIX::_exit(1);
}

# --- Scripts --------------------------------------------------------------------------------------

package Worker {
    sub new {
        my ($class) = @_;
        local $ENV{LATBENCH_WORKER} = "$$-" . main::unix_ns();    # what ends with this one has it
        my $pid = IPC::Open2::open2(my $from, my $to, $^X, $0);
        $to->autoflush(1);
        my $self = bless {pid => $pid, from => $from, to => $to, rest => ''}, $class;
        $self->{hello} = $self->line(main::now_ns() + 60e9);
        return $self;
    }

    sub line {
        my ($self, $until) = @_;
        while (1) {
            return $json->decode($1) if $self->{rest} =~ s/^(.*)\n//;
            my $left = ($until - main::now_ns()) / 1e9;
            return main::failed('time', 'timeout', 'no response in time') if $left <= 0;
            vec(my $input = '', fileno $self->{from}, 1) = 1;
            next if select($input, undef, undef, $left) <= 0;
            sysread($self->{from}, $self->{rest}, 65536, length $self->{rest})
                or return main::failed('time', 'crash', 'the worker has ended');
        }
        return;
    }

    sub ask {
        my ($self, $request, $until) = @_;
        print {$self->{to}} $json->encode($request), "\n";
        return $self->line($until);
    }

    sub end {
        my ($self) = @_;
        close $self->{to};
        kill 'KILL', $self->{pid};
        waitpid $self->{pid}, 0;
        return;
    }
}

sub write_status {
    my ($folder, %fields) = @_;
    my $path = "$folder/status.json";
    open(my $file, '>:raw', "$path.part") or die $!;
    print {$file} $json->encode(\%fields);
    close $file;
    return rename "$path.part", $path;
}

sub is_locked {
    my ($path) = @_;
    open(my $file, '<', $path) or return JSON::PP::false;
    return flock($file, LOCK_SH | LOCK_NB) ? JSON::PP::false : JSON::PP::true;
}

sub run_script {
    my ($folder) = @_;
    my $job = $json->decode(slurp("$folder/job.json") // die "$folder has no job.json\n");
    open(my $answers, '>>:raw', "$folder/answers.jsonl") or die $!;
    flock($answers, LOCK_EX | LOCK_NB) or die "the job $job->{id} is running already\n";
    die "the job $job->{id} has run already\n" if -e "$folder/status.json";
    $answers->autoflush(1);
    my ($begun, %workers, %skipped, $failure) = (now_ns());
    my %status = (pid => $$, started_unix_ns => unix_ns(), ended_unix_ns => undef, failure => undef);
    my $limit = $begun + $job->{limit_s} * 1e9;
    local $SIG{TERM} = sub { die "canceled\n" };
    local $SIG{PIPE} = 'IGNORE';
    my $state = eval {
        lock_for_job($job);
        write_status($folder, %status, state => 'running');
        my $number = -1;
        for my $text (split /\n/, slurp("$folder/script.jsonl")) {
            my $line = $json->decode($text);
            $number++;
            my $name = $line->{worker};
            next if defined $name && ($failure || $skipped{$name});
            die failed('time', 'timeout', 'the time limit has passed') if defined $name && now_ns() > $limit;
            my $response;
            if (!defined $name) { $response = answer($line->{request}) }
            else {
                my $late = now_ns() + $line->{timeout_s} * 1e9;
                my $worker = $workers{$name} //= Worker->new;
                $response = $worker->ask($line->{request}, $late < $limit ? $late : $limit);
                die failed('time', 'timeout', 'the time limit has passed')
                    if ($response->{kind} // '') eq 'timeout' && $limit < $late;
            }
            my $bad = $response->{type} =~ /^(?:failed|refused)$/;
            if (defined $name && ($bad || $line->{role} eq 'close')) { (delete $workers{$name})->end }
            if (defined $name && $bad) {
                $skipped{$name} = 1;
                $failure = failure_of($response) if $name eq 'model';
            }
            print {$answers} $json->encode({line => $number, at_ns => now_ns() - $begun, response => $response}), "\n";
        }
        1;
    } ? ($failure ? 'failed' : 'finished') : "$@" eq "canceled\n" ? 'canceled' : 'failed';
    $failure //= failure_of(ref $@ ? $@ : failed('time', 'error', "$@")) if $state eq 'failed';
    $_->end for grep { defined } values %workers;
    write_status($folder, %status, state => $state, ended_unix_ns => unix_ns(), failure => $state eq 'canceled' ? undef : $failure);
    return;
}

sub lock_for_job {
    my ($job) = @_;
    my $until = now_ns() + 10e9;
    while (!eval { take_lock($job->{lock}, "the job $job->{id} of $job->{harness}"); 1 }) {
        die $@ if now_ns() > $until;
        sleep 0.2;
    }
    return;
}

sub failure_of {
    my ($response) = @_;
    my %failure = (stage => 'open', kind => 'error', %$response);
    delete $failure{type};
    return \%failure;
}

sub start_script {
    my ($folder) = @_;
    my $pid = fork // die $!;
    if (!$pid) {
        POSIX::setsid();
        $ENV{$_} = "$$-" . unix_ns() for qw(LATBENCH_HARNESS LATBENCH_WORKER);
        open(STDIN, '<', '/dev/null') or die $!;
        open(STDOUT, '>', "$folder/output.txt") or die $!;
        open(STDERR, '>&', \*STDOUT) or die $!;
        exec $^X, $0, 'script', 'run', $folder or die $!;
    }
    for (1 .. 600) {
        my $status = slurp("$folder/status.json");
        return print "$status\n" if defined $status;
        die slurp("$folder/output.txt") || "the job does not start\n" if waitpid($pid, WNOHANG);
        sleep 0.05;
    }
    die "the job does not start\n";
}

sub found {
    my ($folder) = @_;
    my ($about, $status) = map { my $text = slurp("$folder/$_.json"); defined $text ? $json->decode($text) : undef } qw(job status);
    return {
        id => $folder =~ s{.*/}{}r, about => $about, status => $status,
        running => is_locked("$folder/answers.jsonl"), answers_bytes => -s "$folder/answers.jsonl" || 0,
    };
}

sub cancel_script {
    my ($folder) = @_;
    for my $signal (qw(TERM KILL)) {
        last if !is_locked("$folder/answers.jsonl");
        kill $signal, found($folder)->{status}{pid};
        for (1 .. 200) { last if !is_locked("$folder/answers.jsonl"); sleep 0.05 }
    }
    return print $json->encode(found($folder)), "\n";
}

if (@ARGV && $ARGV[0] eq 'script') {
    my ($verb, $folder) = @ARGV[1, 2];
    my %verbs = (
        run => \&run_script, start => \&start_script, cancel => \&cancel_script,
        list => sub { print $json->encode(found($_)), "\n" for sort grep { -d } glob "$folder/*" },
    );
    exit(eval { ($verbs{$verb} // die "the verb $verb is unknown\n")->($folder); 1 } ? 0 : print(STDERR $@) && 1);
}
serve();
