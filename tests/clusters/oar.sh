#!/bin/bash
# oar.sh: a real OAR 2.5 (Debian 12 packages) with two nodes on this machine, for tests/clusters. As root; no systemd.
#
#   oar.sh up | down | reset | status      reset: an empty data base, and up again
#   oar.sh server-down | server-up         OAR's central daemon (Almighty)
#   oar.sh db-down | db-up                 its data base; OAR's clients hang meanwhile, and only root can kill them
#   oar.sh kill-node NODE | start-node NODE
#   oar.sh drain NODE on|off               no new jobs on it
#   oar.sh idle [SECONDS]                  end all jobs; all is up, and nothing drained
#
# Each node has its own mount, UTS, IPC and PID namespaces: host name, process ids, /tmp, /var/tmp, /dev/shm are its own;
# home directories are shared, as on a cluster. The data base is a PostgreSQL cluster of its own (port 5433).
#
# What is changed in OAR so that tests are quick: polls and walltime checks of some seconds, hard-coded in its Perl, and
# the 60 s that a job must have run for its exit 99 to resubmit it (jobs of the project `slow` keep them). Its clean-up of
# /tmp at a job's end is off.
set -u -o pipefail
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
NODES=(onode1 onode2) CORES=${CKPT_OAR_CORES:-4} PORT=5433 DB=oar SHORTEST=${CKPT_OAR_SHORTEST:-1}
RUN=/run/ckpt-oar STATE=/var/lib/ckpt-oar PASSWORD=ckpt

say() { printf '[oar] %s\n' "$*"; }
die() { printf '[oar] %s\n' "$*" >&2; exit 1; }
must() { "$@" || die "failed: $*"; }
alive() { local s; [ -s "$1" ] && s=$(sed 's/.*) //' "/proc/$(cat "$1")/stat" 2>/dev/null) && [ "${s%% *}" != Z ]; }
ip_of() { local i; for i in "${!NODES[@]}"; do [ "${NODES[i]}" != "$1" ] || { echo "127.0.1.$((i + 1))"; return; }; done; die "no node $1"; }
pg_version() { find /usr/lib/postgresql -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null | sort -n | tail -1; }
pg_ctl() { pg_ctlcluster --skip-systemctl-redirect "$(pg_version)" $DB "$@"; }
sql() { su postgres -s /bin/sh -c "cd /; psql -p $PORT -Atqc \"$1\" ${2:-postgres}"; }

hosts() {
    sed '/# ckpt-oar$/d' /etc/hosts >"$STATE/hosts" && cat "$STATE/hosts" >/etc/hosts
    [ -z "$(tail -c1 /etc/hosts)" ] || echo >>/etc/hosts
    [ "${1:-}" != clean ] || return 0
    local node
    for node in "${NODES[@]}"; do printf '%s\t%s # ckpt-oar\n' "$(ip_of "$node")" "$node" >>/etc/hosts; done
    printf '127.0.0.1\toarserver # ckpt-oar\n' >>/etc/hosts
    getent hosts "$(hostname)" >/dev/null || printf '127.0.0.1\t%s # ckpt-oar\n' "$(hostname)" >>/etc/hosts
}

# --- configuration ---------------------------------------------------------------------------------------------------
set_conf() { # NAME VALUE: in oar.conf, whether it stood there, as a comment, or not at all
    local file=/etc/oar/oar.conf
    if grep -q "^#\?$1=" $file; then sed -i -E "0,/^#?$1=.*/s||$1=\"$2\"|" $file; else printf '%s="%s"\n' "$1" "$2" >>$file; fi
}

shortest() {
    # shellcheck disable=SC2016 # Perl's own $
    sed -i -E 's/(\$job->\{stop_time\} - \$job->\{start_time\} > )(\(.*\)|[0-9]+)\)/\1($job->{project} eq "slow" ? 60 : '"$1"'))/' \
        /usr/lib/oar/NodeChangeState
    grep -qF "> (\$job->{project} eq \"slow\" ? 60 : $1))" /usr/lib/oar/NodeChangeState
}

configure() {
    set_conf DB_TYPE Pg && set_conf DB_HOSTNAME 127.0.0.1 && set_conf DB_PORT $PORT
    set_conf DB_BASE_PASSWD $PASSWORD && set_conf DB_BASE_PASSWD_RO $PASSWORD
    set_conf SERVER_HOSTNAME oarserver # localhost would be replaced by the host's name, which nodes must resolve
    set_conf LOG_LEVEL 3
    set_conf FINAUD_FREQUENCY 0 # under load its probes call good nodes suspected
    set_conf PINGCHECKER_SENTINELLE_SCRIPT_COMMAND "/usr/lib/oar/sentinelle.pl -t 5 -w 20"
    set_conf SCHEDULER_JOB_SECURITY_TIME 1 && set_conf SCHEDULER_GANTT_HOLE_MINIMUM_TIME 1
    set_conf SCHEDULER_MIN_TIME_BETWEEN_2_CALLS 0
    set_conf JOBDEL_SOFTWALLTIME 3 && set_conf JOBDEL_WALLTIME 8 # of jobs on dead nodes; OAR: 20, 300
    set_conf JOB_RESOURCE_MANAGER_FILE /etc/oar/job_resource_manager_cgroups.pl
    if [ -r /sys/fs/cgroup/cpuset/tasks ]; then
        set_conf CPUSET_PATH /oar && set_conf JOB_RESOURCE_MANAGER_PROPERTY_DB_FIELD cpuset
    else # cgroup v2 only: nothing confines a job, and nothing but its process group ends with it
        sed -i -E 's/^(CPUSET_PATH|JOB_RESOURCE_MANAGER_PROPERTY_DB_FIELD)=/#\1=/' /etc/oar/oar.conf
    fi
    chown oar /etc/oar/oar.conf && chmod 600 /etc/oar/oar.conf
    # shellcheck disable=SC2016 # Perl's own $
    sed -i -E 's/^(my \$read_commands_timeout = )[0-9.]+;/\11;/; s/^(my \$villainstimeout = )[0-9]+;/\12;/
        s/^(my \$schedulertimeout = )[0-9]+;/\110;/' /usr/lib/oar/Almighty
    shortest "$SHORTEST" || return 1
    # two nodes on one kernel: to remove a cpuset that is gone already is no error
    sed -i -E 's/^( *)#? ?and exit\(0\)$/\1and exit(0)/
        s/^my @Tmp_dir_to_clear = .*/my @Tmp_dir_to_clear = ();/' /etc/oar/job_resource_manager_cgroups.pl
    sed -i -E 's/^(UsePrivilegeSeparation|KeepAlive|Protocol)/#\1/' /etc/oar/sshd_config
    touch /var/log/oar.log && chown oar /var/log/oar.log
    mkdir -p /run/sshd && chmod 755 /run/sshd
    printf '%s\n' 'Host *' 'ForwardX11 no' 'StrictHostKeyChecking no' 'UserKnownHostsFile /dev/null' 'LogLevel ERROR' \
        'PasswordAuthentication no' 'AddressFamily inet' 'GSSAPIAuthentication no' >/var/lib/oar/.ssh/config
    chown oar:oar /var/lib/oar/.ssh/config
}

# --- data base --------------------------------------------------------------------------------------------------------
db_up() {
    local version i
    version=$(pg_version)
    if [ ! -d "/etc/postgresql/$version/$DB" ]; then
        pg_createcluster "$version" $DB -p $PORT --start-conf=manual >/dev/null || return 1
        printf '%s\n' 'fsync = off' 'synchronous_commit = off' 'full_page_writes = off' "listen_addresses = '127.0.0.1'" \
            >>"/etc/postgresql/$version/$DB/postgresql.conf"
    fi
    pg_ctl status >/dev/null 2>&1 || pg_ctl start || return 1
    for ((i = 0; i < 100; i++)); do sql 'select 1' >/dev/null 2>&1 && return 0; sleep 0.1; done
    return 1
}
db_down() { pg_ctl status >/dev/null 2>&1 || return 0; pg_ctl stop -m fast; }
db_fill() {
    oar-database --check >/dev/null 2>&1 && return 0
    sql "alter role postgres password '$PASSWORD'" || return 1
    oar-database --create --db-admin-user=postgres --db-admin-pass=$PASSWORD >"$STATE/db.log" 2>&1
    oar-database --check >/dev/null || { cat "$STATE/db.log"; return 1; }
}

# --- nodes ------------------------------------------------------------------------------------------------------------
cgroups_of_nodes() { # make|remove: where OAR's script finds `oardocker`, it works below oardocker/<host name>
    local name group node
    for name in cpuset cpu cpuacct devices freezer; do
        group=/sys/fs/cgroup/$name/oardocker
        if [ "$1" = remove ]; then [ ! -d $group ] || find $group -depth -type d -exec rmdir {} + 2>/dev/null; continue; fi
        for node in "${NODES[@]}"; do mkdir -p "$group/$node"; done
    done
    [ "$1" = make ] || return 0
    for group in oardocker "${NODES[@]/#/oardocker/}"; do
        for name in cpuset.cpus cpuset.mems; do cat /sys/fs/cgroup/cpuset/$name >"/sys/fs/cgroup/cpuset/$group/$name"; done
    done
}

node_init() { # NODE IP: the first process in a node's namespaces
    local dir=$STATE/$1 name
    hostname "$1"
    mount --make-rprivate / && mount -t proc proc /proc
    mount -t tmpfs -o mode=755 tmpfs "$dir/dev" # OAR puts symlinks into /dev
    for name in null zero full random urandom tty; do touch "$dir/dev/$name"; mount --bind /dev/$name "$dir/dev/$name"; done
    mkdir "$dir/dev/pts" "$dir/dev/shm" && mount --bind /dev/pts "$dir/dev/pts" && ln -s pts/ptmx "$dir/dev/ptmx"
    ln -s /proc/self/fd "$dir/dev/fd"
    ln -s fd/0 "$dir/dev/stdin"; ln -s fd/1 "$dir/dev/stdout"; ln -s fd/2 "$dir/dev/stderr"
    mount -t tmpfs -o mode=1777 tmpfs "$dir/dev/shm" && mount --rbind "$dir/dev" /dev
    mount --bind "$dir/tmp" /tmp && mount --bind "$dir/vartmp" /var/tmp && mount --bind "$dir/oarhome" /var/lib/oar
    exec setpriv --pdeathsig clear /usr/sbin/sshd -D -f /etc/oar/sshd_config -o ListenAddress="$2" -o PidFile=none -E "$dir/sshd.log"
}

node_up() {
    local node=$1 ip dir=$STATE/$1 up i
    ip=$(ip_of "$node") || exit 1
    alive "$RUN/$node.pid" && return 0
    mkdir -p "$dir"/{dev,tmp,vartmp,oarhome} && chmod 1777 "$dir/tmp" "$dir/vartmp"
    cp -a /var/lib/oar/. "$dir/oarhome/" && chown oar:oar "$dir/oarhome" && rm -f "$dir"/oarhome/pid_of_oarexec_*
    [ ! -d /sys/fs/cgroup/cpuset ] || cgroups_of_nodes make
    setsid unshare --mount --uts --ipc --pid --fork --kill-child=KILL -- "$0" node-init "$node" "$ip" \
        >>"$dir/init.log" 2>&1 </dev/null &
    up=$!
    for ((i = 0; i < 100; i++)); do [ -z "$(cat /proc/$up/task/$up/children 2>/dev/null)" ] || break; sleep 0.05; done
    awk '{print $1}' "/proc/$up/task/$up/children" >"$RUN/$node.pid"
    for ((i = 0; i < 100; i++)); do
        OARDO_USER=oar su oar -s /bin/sh -c "ssh -p 6667 -o ConnectTimeout=2 -x -T $node true" </dev/null >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    tail -5 "$dir"/*.log
    return 1
}

stop_pid() { # FILE SIGNAL
    local i
    if alive "$1"; then kill "-$2" "$(cat "$1")"; for ((i = 0; i < 150; i++)); do alive "$1" || break; sleep 0.1; done; fi
    ! alive "$1" || kill -9 "$(cat "$1")"
    rm -f "$1"
}

front_up() { # `oarsub --notify exec:` comes by ssh to the machine of the submission
    alive $RUN/front.pid && return 0
    setsid /usr/sbin/sshd -D -f /etc/oar/sshd_config -o ListenAddress=127.0.0.1 -o PidFile=none -E $STATE/front.log </dev/null >/dev/null 2>&1 &
    echo $! >$RUN/front.pid
}

resources() {
    local node i core=1 cpu=1 known
    known=$(oarproperty -l 2>/dev/null) # never piped into grep -q: with pipefail its SIGPIPE would count
    case " ${known//$'\n'/ } " in *" cputype "*) ;; *) must oarproperty -a host -c -a cputype -c -a cpu -a core >/dev/null ;; esac
    for node in "${NODES[@]}"; do
        known=$(oarnodes --sql "network_address='$node'" 2>/dev/null)
        case $known in *network_address*) must oarnodesetting -s Alive -h "$node" >/dev/null ;; *)
            for ((i = 0; i < CORES; i++)); do
                must oarnodesetting -a -h "$node" -p host="$node" -p cputype="type-of-$node" -p cpu=$cpu -p core=$((core + i)) \
                    -p cpuset=$((i % $(nproc))) >/dev/null
            done ;;
        esac
        core=$((core + CORES)) cpu=$((cpu + 1))
    done
}

# --- the central daemon -----------------------------------------------------------------------------------------------
server_up() {
    local i
    alive /run/oar-server.pid && return 0
    rm -f /run/oar-server.pid
    (cd / && /usr/sbin/oar-server) || return 1 # in a child: it calls setsid() and dies where that fails
    for ((i = 0; i < 100; i++)); do (exec 3<>/dev/tcp/127.0.0.1/6666) 2>/dev/null && return 0; sleep 0.1; done
    return 1
}
server_down() {
    local session
    alive /run/oar-server.pid || return 0
    session=$(ps -o sid= -p "$(cat /run/oar-server.pid)")
    stop_pid /run/oar-server.pid TERM
    # Where it took too long and was killed, its listening child would keep the port, swallow what nodes tell, and stop
    # the next server from starting. They ignore TERM.
    pkill -KILL --session "$((session))" --full '^Almighty: (appendice|bipbip)' || true
}

# --- all of it ----------------------------------------------------------------------------------------------------------
up() {
    mkdir -p $RUN $STATE && chmod 755 $RUN $STATE
    ip link set lo up 2>/dev/null
    must hosts; must configure; must db_up; must db_fill
    local node
    for node in "${NODES[@]}"; do must node_up "$node"; done
    must front_up; must resources; must server_up
    echo "${NODES[*]}" >$RUN/up
}
down() {
    local node
    rm -f $RUN/up
    server_down # before the data base: clients that lose it hang for ever
    for node in "${NODES[@]}"; do stop_pid "$RUN/$node.pid" KILL; done
    stop_pid $RUN/front.pid TERM
    cgroups_of_nodes remove
    db_down
    [ ! -d $STATE ] || hosts clean
    return 0
}
reset() {
    server_down
    mkdir -p $RUN $STATE
    must hosts; must configure; must db_up
    oar-database --drop -y --db-admin-user=postgres --db-admin-pass=$PASSWORD >/dev/null 2>&1
    down
    : >/var/log/oar.log
    up
}
start_node() { must node_up "$1"; must oarnodesetting -s Alive -h "$1" >/dev/null; }
idle() {
    local i node
    db_up && server_up || return 1
    for node in "${NODES[@]}"; do node_up "$node" || return 1; done
    sql "update resources set drain = 'NO'" $DB >/dev/null
    oardel --sql "state NOT IN ('Terminated', 'Error')" >/dev/null 2>&1
    for ((i = 0; i < ${1:-60} * 5; i++)); do
        if [ "$(sql "select count(*) from jobs where state not in ('Terminated', 'Error')" $DB)" = 0 ]; then
            for node in "${NODES[@]}"; do oarnodesetting -s Alive -h "$node" >/dev/null; done
            return 0
        fi
        sleep 0.2
    done
    return 1
}
status() {
    local name
    if alive /run/oar-server.pid; then say "server: up"; else say "server: down"; fi
    for name in "${NODES[@]}"; do if alive "$RUN/$name.pid"; then say "$name: up"; else say "$name: down"; fi; done
    oarnodes -s
}

[ "$(id -u)" = 0 ] || die "root brings it up; its jobs are an ordinary user's"
case ${1:-} in
up | down | reset | status) "$1" ;;
server-down) server_down ;;
server-up) server_up ;;
db-down) db_down ;;
db-up) db_up ;;
kill-node) stop_pid "$RUN/$2.pid" KILL ;;
start-node) start_node "$2" ;;
drain) oarnodesetting -h "$2" --drain "$3" ;;
idle) idle "${2:-60}" ;;
node-init) node_init "$2" "$3" ;;
*) sed -n '2,12s/^# \?//p' "$0"; exit 2 ;;
esac
