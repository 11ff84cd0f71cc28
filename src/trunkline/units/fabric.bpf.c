// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * The fabric of an appliance: flows are spread over data planes, at layer 2.
 *
 *     leg ──spread────▶ bus ──dataplane──▶ leg, with a mark      a packet comes in
 *     leg ◀─dispatcher── bus ◀──leave──── leg                    a packet goes out
 *
 * spread and dispatcher run in dispatchers, on what arrives by their legs and by the bus; dataplane, enter and leave
 * in data planes, on what arrives by the bus, and what arrives and leaves by the legs; beside in both, on what arrives
 * by the other bus.
 * All are for the hooks of tc(8) and tcx. The layouts of the maps are those of fabric.py.
 * docs/designs/0003-appliances.md tells why it is so.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define AF_INET6 10
#define ICMP_UNREACHABLE 3
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER 12

#define SHARDS 256
#define UNITS 256
#define LEGS 8
#define HOPS 256
#define NOBODY 0xffff
#define KEEP 0x04
#define TURNS 0x08
/* Bits of a packet's mark, above leg and shard. Rules set SAME: the next packet of this flow is to fare as this one. */
#define SAME 0x1000000
#define LEARN 0x2000000
#define TURNING 0x4000000
/* Of a leg, in what a flow is known by: what comes in again is not what comes from outside. */
#define TURNED 0x80
/* So long at the most without asking the kernel, ns: what it makes of a flow's packets, and its routes. */
#define TRUSTED 100000000ULL
#define GONE 0x04
#define ETH_P_PROBE 0x88b5 /* for experiments and private use (IEEE 802) */

/* What a frame on the bus is. */
enum kind {
	DATA = 1, /* from a dispatcher, to a shard's owner */
	HANDED = 2, /* from a shard's owner to its former one: perhaps yours? */
	RETURNED = 3, /* ... and back: unknown here too */
	OUT = 4, /* from a data plane, to a dispatcher, to be sent */
	PROBE = 5, /* from a dispatcher: are you there? And these legs are mine */
	ECHO = 6, /* the answer */
};

/* What is counted; fabric.py has the same names. */
enum counted {
	RECEIVED,
	SENT,
	HANDED_OVER,
	HANDED_BACK,
	CARRIED, /* of those received, what the kernel did not see */
	DROPPED_MALFORMED,
	DROPPED_LATE_FRAGMENT,
	DROPPED_NO_OWNER,
	DROPPED_NO_UNIT,
	DROPPED_NO_ROUTE,
	DROPPED_OVER_QUOTA,
	RECEIVED_BYTES,
	SENT_BYTES,
	PROCESSOR_TIME, /* ns */
	COUNTED,
};

/* A frame's source address on the bus; its destination address is the unit's. */
struct label {
	/* 02: of nobody else's making; 04: who gets what is handed is to keep it; 08: it goes out, and comes in again */
	__u8 local;
	__u8 kind;
	__u8 leg;
	__u8 from; /* which unit */
	__be16 shard;
} __attribute__((packed));

struct frame {
	__u8 to[6];
	struct label from;
} __attribute__((packed));

/*
 * What follows the header of a probe. An answer is the same with what the answering unit's kernel knows instead.
 * A take is a number that grows each time that some dispatcher takes a leg; its lowest 8 bits are that unit's.
 */
struct probe {
	__u8 mac[6]; /* where to answer, and where what leaves by these legs is to be sent */
	__u8 flags; /* a dispatcher's prober has a meaning for them; in an answer, the answering one's, or GONE */
	__u8 beat; /* ... which changes as long as that runs */
	__be32 round;
	__be32 takes[LEGS]; /* of the legs that a dispatcher serves, 0 for others; that a data plane goes by */
	__be32 about; /* another unit, of which a dispatcher may have heard ... */
	__be32 age; /* ... so many microseconds ago; in an answer */
} __attribute__((packed));

struct self {
	__u32 bus; /* the device's number */
	__u32 unit;
	__u8 flags;
	__u8 beat;
	__u8 paired; /* the bus's device is one end of a pair, and the other one is the host's: not in a guest */
	__u8 unused;
};

struct unit {
	__u8 mac[6];
	__u8 present;
	__u8 unused;
};

struct shard {
	__u16 owner;
	__u16 former; /* who has flows of it still that the owner does not know; NOBODY */
	__u16 begins; /* what the owner does not know begins at the former one */
};

struct leg {
	__u32 device;
	__u8 dispatcher[6]; /* in a data plane: where to send what leaves */
	__u8 outside;
	__u8 unused;
	__u32 takes; /* in a data plane: of that dispatcher; in a dispatcher: its own, 0 where it does not serve */
};

struct endpoint {
	__u8 address[16]; /* IPv4 addresses as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2) */
	__be16 port;
	__u8 protocol;
	__u8 unused;
};

/* The ports of an address that sources are translated to: shard n has `size` from first + n * size on. */
struct blocks {
	__u16 first;
	__u16 size;
	/* Or, where these are so many subscribers' blocks: the first one's has this number, and shards go by it. */
	__u16 number;
	__u16 subscribers;
};

/* Addresses of IPv4, as a trie of longest prefixes has them. */
struct prefix {
	__u32 length;
	__be32 address;
};

struct fragment {
	__u8 source[16];
	__u8 target[16];
	__be32 id;
	__u32 protocol;
};

struct flow {
	__u8 source[16];
	__u8 target[16];
	__be16 sport;
	__be16 dport;
	__be32 id;
	__u8 protocol;
	__u8 begins; /* a TCP connection */
	__u8 first; /* of several fragments */
	__u8 late; /* a fragment after the first: the ports are not known */
	__u8 flags; /* of TCP */
	__u8 plain; /* no options of IP, no fragment, no error that quotes it */
	__u8 unused[2];
};

/* The ends of a flow, of which other things are looked up. */
struct ends {
	__u8 source[16];
	__u8 target[16];
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 leg; /* by which it comes, or leaves; 80 more: it turned */
	__be16 family; /* as in a frame's header: an IPv4 address may be written as one of IPv6 */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct self);
} here SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, UNITS);
	__type(key, __u32);
	__type(value, struct unit);
} units SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SHARDS);
	__type(key, __u32);
	__type(value, struct shard);
} shards SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LEGS);
	__type(key, __u32);
	__type(value, struct leg);
} legs SEC(".maps");

/* Which leg a device is. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LEGS);
	__type(key, __u32);
	__type(value, __u32);
} devices SEC(".maps");

/* In a dispatcher: when each unit last sent it anything, ns. One that sends needs no other sign of life. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, UNITS);
	__type(key, __u32);
	__type(value, __u64);
} heard SEC(".maps");

/*
 * Ends of flows that are translated by the policy: published addresses, and those who answer behind them. With
 * neither port nor protocol it is the whole address.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384); /* of several policies, while one follows another */
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct endpoint);
	__type(value, __u32);
} published SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct endpoint);
	__type(value, struct blocks);
} translated SEC(".maps");

/* Who has a block of ports: what the number of an address of the prefix is more than the address. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536); /* each may be a prefix by itself, of several policies too */
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u32);
} subscribers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct fragment);
	__type(value, __u32);
} fragments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTED);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/*
 * What packets may have of processors (ITU-T I.371, virtual scheduling): what they had is paid for until some time,
 * and who has paid too far ahead gets nothing.
 */
struct quota {
	__u64 paid; /* until then, ns */
	__u64 price; /* of each nanosecond that they have, in 65536ths of one; 0: there is no limit */
	__u64 ahead; /* so far at the most, ns */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct quota);
} quotas SEC(".maps");

/*
 * In a data plane: what the kernel made of a packet of a flow that is established, and until when the next ones are
 * taken to be alike, ns.
 */
struct way {
	struct ends after;
	__u64 until;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct ends);
	__type(value, struct way);
} ways SEC(".maps");

/* In a dispatcher: which hop was the next one for an address, and until when it is taken to be that, ns. */
struct hop {
	__u8 target[16];
	struct bpf_redir_neigh next;
	__u32 leg;
	__u64 until;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HOPS);
	__type(key, __u32);
	__type(value, struct hop);
} hops SEC(".maps");

/* In a data plane: the packet that this processor is at. */
struct current {
	struct ends before;
	__u64 began; /* when it came into the unit's kernel, ns; 0: it did not */
	__u64 learns; /* what becomes of it is to be known */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct current);
} now_at SEC(".maps");

/* Who answers probes, and takes what is for the unit itself. */
enum life {
	ANSWERS,
	TAKES,
	LIVING,
};

/*
 * The kernel empties it as soon as nobody has the map open, which is when the unit's process has ended. The namespace
 * is there for a while after that, and forwards as it did.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, LIVING);
	__type(key, __u32);
	__type(value, __u32);
} living SEC(".maps");

static __always_inline void add(__u32 what, __u64 much)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &what);

	if (n)
		*n += much;
}

static __always_inline void count(__u32 what)
{
	add(what, 1);
}

/* A packet and its bytes, from the IP header on. */
static __always_inline void passed(struct __sk_buff *skb, __u32 what, __u32 bytes)
{
	count(what);
	add(bytes, skb->len - ETH_HLEN);
}

static __always_inline int drop(__u32 why)
{
	count(why);
	return TC_ACT_SHOT;
}

/* ---- What packets have of processors ---- */

/*
 * What a frame takes that nobody here sees, ns, by samples of two busy processors, which may be slower or faster than
 * others: what goes on at once, what leaves by a dispatcher's leg, and what waits in a queue for the kernel or the bus.
 */
#define AT_ONCE 600
#define BY_LEG 1000
#define QUEUED 1500
/* Who took longer for a frame was kept from it, by an interrupt or by who else has this machine. */
#define LONGEST 200000
/* Reading the clock takes a tenth of what a frame that goes on at once does: one of so many is measured for all. */
#define MEASURED 8

/* When a frame came that is measured, ns; 0 for others. */
static __always_inline __u64 come(void)
{
	return bpf_get_prandom_u32() % MEASURED ? 0 : bpf_ktime_get_ns();
}

static __always_inline int is_over_quota(__u64 now)
{
	__u32 zero = 0;
	struct quota *quota = bpf_map_lookup_elem(&quotas, &zero);

	return quota && quota->price && quota->paid > now + quota->ahead;
}

/* Some packet, and `others` like it, had a processor from `began` on, and has it for so long unseen. */
static __always_inline void pay_for(__u64 began, __u64 unseen, __u32 others)
{
	__u64 now = bpf_ktime_get_ns(), had = now - began;
	__u32 zero = 0;
	struct quota *quota = bpf_map_lookup_elem(&quotas, &zero);

	if (had > LONGEST)
		had = 0;
	had = (had + unseen) * (1 + others);
	add(PROCESSOR_TIME, had);
	if (!quota || !quota->price)
		return;
	/* Whoever does this at the same time loses one packet's. */
	if (quota->paid < now)
		quota->paid = now;
	__sync_fetch_and_add(&quota->paid, had * quota->price >> 16);
}

/* As pay_for, of what came at `come`. */
static __always_inline void pay(__u64 began, __u64 unseen)
{
	if (began)
		pay_for(began, unseen, MEASURED - 1);
}

/* ---- Which flow a packet belongs to, and which shard the flow ---- */

/* As bpf_skb_load_bytes, which is called only where the bytes do not lie in one piece. */
static __always_inline int load(struct __sk_buff *skb, __u32 at, void *to, const __u32 size)
{
	const __u8 *data, *end;

	/* The verifier knows these by where they are read from, which compilers would work out once and keep. */
	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(data) : "r"(skb), "i"(__builtin_offsetof(struct __sk_buff, data)));
	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(end) : "r"(skb), "i"(__builtin_offsetof(struct __sk_buff, data_end)));
	if (data + at + size > end)
		return bpf_skb_load_bytes(skb, at, to, size);
	__builtin_memcpy(to, data + at, size);
	return 0;
}

/* MurmurHash3's finalizer, after each word. */
static __always_inline __u32 mix(__u32 hash, __u32 word)
{
	hash ^= word;
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	hash *= 0xc2b2ae35;
	return hash ^ hash >> 16;
}

static __always_inline __u32 mixed(const __u8 *address, __be16 port)
{
	const __u32 *words = (const __u32 *)address;

	return mix(mix(mix(mix(mix(0x9747b28c, words[0]), words[1]), words[2]), words[3]), port);
}

static __always_inline int differ(const void *one, const void *other)
{
	const __u32 *a = one, *b = other;

	return ((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3])) != 0;
}

static __always_inline void mapped(__u8 *to, __be32 address)
{
	__u32 *words = (__u32 *)to;

	words[0] = words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = address;
}

/* The ports of the header at `at`, or what serves as ports; of a quoted header no more is there for sure. */
static __always_inline int ports(struct __sk_buff *skb, __u32 at, struct flow *flow, int quoted)
{
	__be16 two[2];
	__u8 flags;

	if (flow->protocol == IPPROTO_TCP || flow->protocol == IPPROTO_UDP) {
		if (load(skb, at, two, sizeof(two)))
			return -1;
		flow->sport = two[0];
		flow->dport = two[1];
		if (flow->protocol == IPPROTO_UDP || quoted)
			return 0;
		if (load(skb, at + 13, &flags, 1))
			return -1;
		flow->begins = (flags & 0x12) == 0x02; /* SYN, no ACK */
		flow->flags = flags;
	} else if (flow->protocol == IPPROTO_ICMP || flow->protocol == IPPROTO_ICMPV6) {
		if (load(skb, at + 4, two, sizeof(two)))
			return -1;
		flow->sport = flow->dport = two[0]; /* an echo's identifier */
	}
	return 0;
}

static __always_inline void turn(struct flow *flow)
{
	__be16 port = flow->sport;
	__u8 address[16];

	__builtin_memcpy(address, flow->source, 16);
	__builtin_memcpy(flow->source, flow->target, 16);
	__builtin_memcpy(flow->target, address, 16);
	flow->sport = flow->dport;
	flow->dport = port;
}

static __always_inline int parse_v4(struct __sk_buff *skb, __u32 at, struct flow *flow)
{
	struct iphdr ip;
	__u8 type;

	if (load(skb, at, &ip, sizeof(ip)))
		return -1;
	mapped(flow->source, ip.saddr);
	mapped(flow->target, ip.daddr);
	flow->protocol = ip.protocol;
	flow->id = ip.id;
	flow->late = (ip.frag_off & bpf_htons(0x1fff)) != 0;
	flow->first = !flow->late && (ip.frag_off & bpf_htons(0x2000));
	flow->plain = ip.ihl == 5 && !(ip.frag_off & bpf_htons(0x3fff));
	at += ip.ihl * 4;
	if (flow->late)
		return 0;
	if (ip.protocol != IPPROTO_ICMP)
		return ports(skb, at, flow, 0);
	if (load(skb, at, &type, 1))
		return -1;
	if (type != ICMP_UNREACHABLE && type != ICMP_TIME_EXCEEDED && type != ICMP_PARAMETER)
		return ports(skb, at, flow, 0);
	/* An error goes the other way than what it quotes (RFC 792). */
	at += 8;
	if (load(skb, at, &ip, sizeof(ip)))
		return -1;
	mapped(flow->source, ip.saddr);
	mapped(flow->target, ip.daddr);
	flow->protocol = ip.protocol;
	if (ports(skb, at + ip.ihl * 4, flow, 1))
		return -1;
	turn(flow);
	flow->plain = 0;
	return 0;
}

/* As parse_v4; 1 for neighbour discovery and for link-local addresses, which are the unit's own. */
static __always_inline int parse_v6(struct __sk_buff *skb, __u32 at, struct flow *flow)
{
	struct {
		__u8 next, reserved;
		__be16 offset;
		__be32 id;
	} fragment;
	struct ipv6hdr ip;
	__u8 type;

	if (load(skb, at, &ip, sizeof(ip)))
		return -1;
	__builtin_memcpy(flow->source, &ip.saddr, 16);
	__builtin_memcpy(flow->target, &ip.daddr, 16);
	if (flow->target[0] == 0xfe && (flow->target[1] & 0xc0) == 0x80)
		return 1;
	flow->protocol = ip.nexthdr;
	flow->plain = ip.nexthdr != IPPROTO_FRAGMENT;
	at += sizeof(ip);
	if (ip.nexthdr == IPPROTO_FRAGMENT) {
		if (load(skb, at, &fragment, sizeof(fragment)))
			return -1;
		at += sizeof(fragment);
		flow->protocol = fragment.next;
		flow->id = fragment.id;
		flow->late = (fragment.offset & bpf_htons(0xfff8)) != 0;
		flow->first = !flow->late;
		if (flow->late)
			return 0;
	}
	if (flow->protocol != IPPROTO_ICMPV6)
		return ports(skb, at, flow, 0);
	if (load(skb, at, &type, 1))
		return -1;
	if (type >= 133 && type <= 137)
		return 1;
	if (type >= 128)
		return ports(skb, at, flow, 0);
	/* An error (RFC 4443, 2.1). */
	at += 8;
	if (load(skb, at, &ip, sizeof(ip)))
		return -1;
	__builtin_memcpy(flow->source, &ip.saddr, 16);
	__builtin_memcpy(flow->target, &ip.daddr, 16);
	flow->protocol = ip.nexthdr;
	if (ports(skb, at + sizeof(ip), flow, 1))
		return -1;
	turn(flow);
	flow->plain = 0;
	return 0;
}

/* 0: it is of this flow; 1: it is for the unit itself; -1: too short to tell. */
static __always_inline int parse(struct __sk_buff *skb, struct flow *flow)
{
	__builtin_memset(flow, 0, sizeof(*flow));
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return parse_v4(skb, ETH_HLEN, flow);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return parse_v6(skb, ETH_HLEN, flow);
	return 1;
}

/*
 * The shard of a flow to an address that sources are translated to: whose block its port is in; -1 for others.
 * `subscriber`: whether it is one's.
 */
static __always_inline int by_block(struct flow *flow, int *subscriber)
{
	struct endpoint whole = {};
	__u32 port = bpf_ntohs(flow->dport), block;
	struct blocks *blocks;

	*subscriber = 0;
	__builtin_memcpy(whole.address, flow->target, 16);
	blocks = bpf_map_lookup_elem(&translated, &whole);
	if (!blocks || !blocks->size || port < blocks->first)
		return -1;
	block = (port - blocks->first) / (__u32)blocks->size;
	*subscriber = block < blocks->subscribers;
	if (blocks->subscribers)
		return *subscriber ? (int)((blocks->number + block) % SHARDS) : -1;
	return block < SHARDS ? (int)block : -1;
}

/* The shard of all flows of a subscriber, so that each of its ports is seen as one whoever it speaks to; or -1. */
static __always_inline int by_subscriber(const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;
	struct prefix prefix = { .length = 32, .address = words[3] };
	__u32 *more;

	if (words[0] | words[1] || words[2] != bpf_htonl(0xffff))
		return -1;
	more = bpf_map_lookup_elem(&subscribers, &prefix);
	return more ? (int)((bpf_ntohl(words[3]) + *more) % SHARDS) : -1;
}

/*
 * Both directions of a flow have the same shard, whatever is translated on the way. Of those whose both ends are
 * translated (a balancer that members take for their client), what comes back comes to a block, by whichever leg.
 * `turns`: a subscriber speaks to another one's outer address.
 */
static __always_inline __u32 shard_of(struct flow *flow, int outside, int *turns)
{
	struct endpoint near = {}, whole;
	int shard = -1, subscriber, other;

	*turns = 0;
	if (!outside) {
		shard = by_block(flow, &subscriber);
		/* An echo is answered by whoever has the block. */
		if (subscriber && flow->protocol != IPPROTO_ICMP) {
			other = by_subscriber(flow->source);
			*turns = other >= 0;
			if (*turns)
				return other;
		}
	}
	if (shard >= 0)
		return shard;
	__builtin_memcpy(near.address, outside ? flow->target : flow->source, 16);
	near.port = outside ? flow->dport : flow->sport;
	near.protocol = flow->protocol;
	whole = near;
	whole.port = whole.protocol = 0;
	if (bpf_map_lookup_elem(&published, &near) || bpf_map_lookup_elem(&published, &whole)) {
		/* This end is translated; the other one is not. */
		if (outside)
			return mixed(flow->source, flow->sport) % SHARDS;
		return mixed(flow->target, flow->dport) % SHARDS;
	}
	if (outside) {
		shard = by_block(flow, &subscriber);
		if (shard >= 0)
			return shard;
	}
	shard = by_subscriber(flow->source);
	other = by_subscriber(flow->target);
	if (shard >= 0 || other >= 0)
		return ((shard < 0 ? 0 : shard) + (other < 0 ? 0 : other)) % SHARDS;
	return (mixed(flow->source, flow->sport) + mixed(flow->target, flow->dport)) % SHARDS;
}

/* What the fragments of a packet have in common. */
static __always_inline struct fragment fragment_of(struct flow *flow)
{
	struct fragment fragment = { .id = flow->id, .protocol = flow->protocol };

	__builtin_memcpy(fragment.source, flow->source, 16);
	__builtin_memcpy(fragment.target, flow->target, 16);
	return fragment;
}

/* ---- Frames on the bus ---- */

static __always_inline int labelled(struct __sk_buff *skb, struct self *self, const __u8 *mac, struct label label)
{
	struct frame frame = { .from = label };

	__builtin_memcpy(frame.to, mac, 6);
	frame.from.local |= 0x02;
	frame.from.from = self->unit;
	return bpf_skb_store_bytes(skb, 0, &frame, sizeof(frame), 0);
}

static __always_inline int send_by(struct __sk_buff *skb, struct self *self, __u32 device, const __u8 *mac,
				   struct label label)
{
	if (labelled(skb, self, mac, label))
		return drop(DROPPED_MALFORMED);
	return bpf_redirect(device, 0);
}

/* Of what arrives here, and goes on by the bus: at once, in no queue, where that can be. */
static __always_inline int send(struct __sk_buff *skb, struct self *self, const __u8 *mac, struct label label)
{
	if (labelled(skb, self, mac, label))
		return drop(DROPPED_MALFORMED);
	return self->paired ? bpf_redirect_peer(self->bus, 0) : bpf_redirect(self->bus, 0);
}

static __always_inline int hand(struct __sk_buff *skb, struct self *self, __u32 to, struct label label)
{
	struct unit *unit = bpf_map_lookup_elem(&units, &to);

	if (!unit || !unit->present)
		return drop(DROPPED_NO_UNIT);
	return send(skb, self, unit->mac, label);
}

/*
 * Answers a probe from here, on the bus that it came by: who gets an answer knows that this unit forwards, whatever
 * its processes do. A data plane that `follows` goes by the newest take of each leg, so that one who served before
 * cannot take it back.
 */
static __always_inline int answer(struct __sk_buff *skb, struct self *self, int follows)
{
	struct probe probe;
	__u64 age, *when;
	__u32 about;

	if (load(skb, ETH_HLEN, &probe, sizeof(probe)))
		return drop(DROPPED_MALFORMED);
	for (__u32 n = 0; n < LEGS; n++) {
		__u32 take = bpf_ntohl(probe.takes[n]), which = n;
		struct leg *leg = bpf_map_lookup_elem(&legs, &which);

		if (!leg)
			continue;
		if (follows && take > leg->takes) {
			leg->takes = take;
			__builtin_memcpy(leg->dispatcher, probe.mac, 6);
		}
		probe.takes[n] = bpf_htonl(leg->takes);
	}
	about = bpf_ntohl(probe.about);
	when = bpf_map_lookup_elem(&heard, &about);
	age = when && *when ? (bpf_ktime_get_coarse_ns() - *when) / 1000 : ~0ULL;
	probe.age = bpf_htonl(age < 0xffffffff ? age : 0xffffffff);
	probe.flags = self->flags;
	probe.beat = self->beat;
	if (bpf_skb_store_bytes(skb, ETH_HLEN, &probe, sizeof(probe), 0))
		return drop(DROPPED_MALFORMED);
	return send_by(skb, self, skb->ifindex, probe.mac, (struct label){ .kind = ECHO });
}

SEC("tc") int answers(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct self *self = bpf_map_lookup_elem(&here, &zero);

	return self ? answer(skb, self, 0) : TC_ACT_SHOT;
}

SEC("tc") int answers_following(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct self *self = bpf_map_lookup_elem(&here, &zero);

	return self ? answer(skb, self, 1) : TC_ACT_SHOT;
}

/* Nobody is living: the answer says so. The rest of it is the question's. */
static __always_inline int answer_gone(struct __sk_buff *skb, struct self *self)
{
	struct probe probe;

	if (load(skb, ETH_HLEN, &probe, sizeof(probe)))
		return drop(DROPPED_MALFORMED);
	probe.flags = GONE;
	if (bpf_skb_store_bytes(skb, ETH_HLEN, &probe, sizeof(probe), 0))
		return drop(DROPPED_MALFORMED);
	return send_by(skb, self, skb->ifindex, probe.mac, (struct label){ .kind = ECHO });
}

static __always_inline int ask(struct __sk_buff *skb, struct self *self)
{
	bpf_tail_call(skb, &living, ANSWERS);
	return answer_gone(skb, self);
}

/* What arrives by the out-of-band bus: probes are answered, the rest is for the unit's process. */
SEC("tc") int beside(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct self *self = bpf_map_lookup_elem(&here, &zero);
	struct frame frame;

	if (!self || skb->protocol != bpf_htons(ETH_P_PROBE) || skb->pkt_type != PACKET_HOST ||
	    load(skb, 0, &frame, sizeof(frame)) || frame.from.kind != PROBE)
		return TC_ACT_OK;
	return ask(skb, self);
}

/* ---- Dispatchers ---- */

SEC("tc") int takes(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}

/*
 * What is for the unit itself. Where nobody is living, another dispatcher has the leg's addresses now, or will: who
 * asks for a neighbour is not to be told of this one.
 */
static __always_inline int own(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &living, TAKES);
	return TC_ACT_SHOT;
}

/* What arrives by a leg goes to the data plane that has its shard. */
SEC("tc") int spread(struct __sk_buff *skb)
{
	__u64 began = come();
	__u32 zero = 0, device = skb->ifindex, number;
	struct self *self = bpf_map_lookup_elem(&here, &zero);
	__u32 *which = bpf_map_lookup_elem(&devices, &device);
	struct fragment fragment;
	struct shard *shard;
	struct flow flow;
	struct leg *leg;
	int trouble, done, turns = 0;

	if (!self || !which)
		return TC_ACT_OK;
	leg = bpf_map_lookup_elem(&legs, which);
	if (!leg)
		return TC_ACT_OK;
	if (skb->pkt_type != PACKET_HOST)
		return own(skb);
	trouble = parse(skb, &flow);
	if (trouble > 0)
		return own(skb);
	if (trouble)
		return drop(DROPPED_MALFORMED);
	if (is_over_quota(bpf_ktime_get_coarse_ns()))
		return drop(DROPPED_OVER_QUOTA);
	if (flow.first || flow.late)
		fragment = fragment_of(&flow);
	if (flow.late) {
		__u32 *first = bpf_map_lookup_elem(&fragments, &fragment);

		if (!first)
			return drop(DROPPED_LATE_FRAGMENT);
		number = *first;
	} else {
		number = shard_of(&flow, leg->outside, &turns);
	}
	if (flow.first)
		bpf_map_update_elem(&fragments, &fragment, &number, BPF_ANY);
	shard = bpf_map_lookup_elem(&shards, &number);
	if (!shard || shard->owner == NOBODY)
		return drop(DROPPED_NO_OWNER);
	passed(skb, RECEIVED, RECEIVED_BYTES);
	done = hand(skb, self, shard->owner,
		    (struct label){ .local = turns ? TURNS : 0,
				    .kind = DATA,
				    .leg = *which,
				    .shard = bpf_htons(number) });
	pay(began, AT_ONCE);
	return done;
}

/* What a subscriber sends to another one's outer address comes to that one, as from outside (RFC 4787, 6). */
static __always_inline int turn_round(struct __sk_buff *skb, struct self *self, __u32 which)
{
	struct fragment fragment;
	struct shard *shard;
	struct flow flow;
	__u32 number, *first;
	int subscriber, found;

	if (parse(skb, &flow))
		return drop(DROPPED_MALFORMED);
	fragment = fragment_of(&flow);
	if (flow.late) {
		first = bpf_map_lookup_elem(&fragments, &fragment);
		if (!first)
			return drop(DROPPED_LATE_FRAGMENT);
		number = *first;
	} else {
		found = by_block(&flow, &subscriber);
		if (found < 0)
			return drop(DROPPED_NO_OWNER);
		number = found;
	}
	if (flow.first)
		bpf_map_update_elem(&fragments, &fragment, &number, BPF_ANY);
	shard = bpf_map_lookup_elem(&shards, &number);
	if (!shard || shard->owner == NOBODY)
		return drop(DROPPED_NO_OWNER);
	return hand(skb, self, shard->owner,
		    (struct label){ .local = TURNS, .kind = DATA, .leg = which, .shard = bpf_htons(number) });
}

/* Where a packet goes by a leg, by this unit's routes; 0: nowhere. */
static __always_inline struct hop *next_hop(struct __sk_buff *skb, struct leg *leg, __u32 which, __u64 now)
{
	struct bpf_fib_lookup route = { .ifindex = leg->device };
	__u8 target[16];
	struct ipv6hdr ip6;
	struct iphdr ip;
	struct hop *hop;
	__u32 slot;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (load(skb, ETH_HLEN, &ip, sizeof(ip)))
			return 0;
		mapped(target, ip.daddr);
		route.family = AF_INET;
		route.ipv4_src = ip.saddr;
		route.ipv4_dst = ip.daddr;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (load(skb, ETH_HLEN, &ip6, sizeof(ip6)))
			return 0;
		__builtin_memcpy(target, &ip6.daddr, 16);
		route.family = AF_INET6;
		__builtin_memcpy(route.ipv6_src, &ip6.saddr, 16);
		__builtin_memcpy(route.ipv6_dst, &ip6.daddr, 16);
	} else {
		return 0;
	}
	slot = mixed(target, which) % HOPS;
	hop = bpf_map_lookup_elem(&hops, &slot);
	if (!hop || (hop->until > now && hop->leg == which && !differ(hop->target, target)))
		return hop;
	hop->until = 0;
	if (bpf_fib_lookup(skb, &route, sizeof(route), BPF_FIB_LOOKUP_OUTPUT | BPF_FIB_LOOKUP_SKIP_NEIGH))
		return 0;
	__builtin_memcpy(hop->target, target, 16);
	hop->next.nh_family = route.family;
	__builtin_memcpy(hop->next.ipv6_nh, route.ipv6_dst, 16);
	hop->leg = which;
	hop->until = now + TRUSTED;
	return hop;
}

/* What data planes send goes out by its leg, to the next hop that this unit's routes name. */
SEC("tc") int dispatcher(struct __sk_buff *skb)
{
	__u64 began = come(), now, *when;
	__u32 zero = 0, which, from;
	struct self *self = bpf_map_lookup_elem(&here, &zero);
	struct frame frame;
	struct leg *leg;
	struct hop *hop;
	int done;

	/* A bus that floods brings what is for others. */
	if (!self || skb->pkt_type != PACKET_HOST || load(skb, 0, &frame, sizeof(frame)))
		return TC_ACT_OK;
	if (frame.from.kind == PROBE)
		return ask(skb, self);
	from = frame.from.from;
	when = bpf_map_lookup_elem(&heard, &from);
	now = bpf_ktime_get_coarse_ns();
	if (when)
		*when = now;
	if (frame.from.kind != OUT)
		return TC_ACT_OK;
	if (is_over_quota(now))
		return drop(DROPPED_OVER_QUOTA);
	which = frame.from.leg;
	leg = bpf_map_lookup_elem(&legs, &which);
	if (!leg)
		return drop(DROPPED_MALFORMED);
	if (leg->outside && frame.from.local & TURNS) {
		done = turn_round(skb, self, which);
		pay(began, AT_ONCE);
		return done;
	}
	hop = next_hop(skb, leg, which, now);
	if (!hop)
		return drop(DROPPED_NO_ROUTE);
	passed(skb, SENT, SENT_BYTES);
	done = bpf_redirect_neigh(leg->device, &hop->next, sizeof(hop->next), 0);
	pay(began, BY_LEG);
	return done;
}

/* ---- Data planes ---- */

/* The kernel's own: net/netfilter/nf_conntrack_bpf.c. TCP and UDP alone. */
struct nf_conn {
	unsigned long status;
} __attribute__((preserve_access_index));

struct lookup {
	__s32 netns;
	__s32 error;
	__u8 protocol;
	__u8 direction;
	__u8 reserved[2];
};

extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *, struct bpf_sock_tuple *, __u32, struct lookup *,
					 __u32) __ksym;
extern void bpf_ct_release(struct nf_conn *) __ksym;

static __always_inline int knows(struct __sk_buff *skb, struct flow *flow)
{
	struct lookup how = { .netns = -1, .protocol = flow->protocol };
	struct bpf_sock_tuple tuple = {};
	struct nf_conn *found;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		tuple.ipv4.saddr = ((__u32 *)flow->source)[3];
		tuple.ipv4.daddr = ((__u32 *)flow->target)[3];
		tuple.ipv4.sport = flow->sport;
		tuple.ipv4.dport = flow->dport;
		found = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv4), &how, sizeof(how));
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, flow->source, 16);
		__builtin_memcpy(tuple.ipv6.daddr, flow->target, 16);
		tuple.ipv6.sport = flow->sport;
		tuple.ipv6.dport = flow->dport;
		found = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv6), &how, sizeof(how));
	}
	if (!found)
		return 0;
	bpf_ct_release(found);
	return 1;
}

/* Whether another unit is to see to a packet, as it may know its flow; `begins`: also of what begins. */
static __always_inline int is_elsewhere(struct __sk_buff *skb, int begins)
{
	struct fragment fragment;
	struct flow flow;
	__u32 *first, elsewhere;

	if (parse(skb, &flow))
		return 0;
	fragment = fragment_of(&flow);
	if (flow.late) {
		/* It has no ports: it goes where the first one went. */
		first = bpf_map_lookup_elem(&fragments, &fragment);
		return first && *first;
	}
	elsewhere = (begins || !flow.begins) && !knows(skb, &flow);
	if (flow.first)
		bpf_map_update_elem(&fragments, &fragment, &elsewhere, BPF_ANY);
	return elsewhere;
}

/* ---- What needs no kernel ---- */

static __always_inline struct ends ends_of(struct __sk_buff *skb, struct flow *flow, __u32 leg)
{
	struct ends ends = {
		.sport = flow->sport,
		.dport = flow->dport,
		.protocol = flow->protocol,
		.leg = leg,
		.family = skb->protocol,
	};

	__builtin_memcpy(ends.source, flow->source, 16);
	__builtin_memcpy(ends.target, flow->target, 16);
	return ends;
}

/* Packets that begin or end a connection are the kernel's, as are fragments and what has no ports. */
static __always_inline int is_carried(struct flow *flow)
{
	return flow->plain && (flow->protocol == IPPROTO_UDP ||
			       (flow->protocol == IPPROTO_TCP && !(flow->flags & 0x07))); /* FIN, SYN, RST */
}

/* Writes other ports into the header at `at`, whose sum is at `sum`; `two`: those that it has. */
static __always_inline void carry_ports(struct __sk_buff *skb, struct way *way, int at, int sum, int mangled,
					const __be16 *two)
{
	if (two[0] != way->after.sport) {
		bpf_l4_csum_replace(skb, sum, two[0], way->after.sport, mangled | 2);
		bpf_skb_store_bytes(skb, at, &way->after.sport, 2, 0);
	}
	if (two[1] != way->after.dport) {
		bpf_l4_csum_replace(skb, sum, two[1], way->after.dport, mangled | 2);
		bpf_skb_store_bytes(skb, at + 2, &way->after.dport, 2, 0);
	}
}

/* Writes other ends, and a hop less; nonzero where that cannot be, and the packet is as it was. */
static __always_inline int carry_v4(struct __sk_buff *skb, struct way *way)
{
	const __u32 *source = (const __u32 *)way->after.source, *target = (const __u32 *)way->after.target;
	const int ip_sum = ETH_HLEN + 10, at = ETH_HLEN + sizeof(struct iphdr);
	int udp = way->after.protocol == IPPROTO_UDP, sum = at + (udp ? 6 : 16), mangled = udp ? BPF_F_MARK_MANGLED_0 : 0;
	struct iphdr ip;
	__be16 two[2];
	__u8 hops;

	if (load(skb, ETH_HLEN, &ip, sizeof(ip)) || load(skb, at, two, sizeof(two)) || ip.ttl < 2)
		return -1;
	hops = ip.ttl - 1;
	bpf_l3_csum_replace(skb, ip_sum, bpf_htons(ip.ttl << 8), bpf_htons(hops << 8), 2);
	bpf_skb_store_bytes(skb, ETH_HLEN + 8, &hops, 1, 0);
	if (ip.saddr != source[3]) {
		bpf_l4_csum_replace(skb, sum, ip.saddr, source[3], BPF_F_PSEUDO_HDR | mangled | 4);
		bpf_l3_csum_replace(skb, ip_sum, ip.saddr, source[3], 4);
		bpf_skb_store_bytes(skb, ETH_HLEN + 12, &source[3], 4, 0);
	}
	if (ip.daddr != target[3]) {
		bpf_l4_csum_replace(skb, sum, ip.daddr, target[3], BPF_F_PSEUDO_HDR | mangled | 4);
		bpf_l3_csum_replace(skb, ip_sum, ip.daddr, target[3], 4);
		bpf_skb_store_bytes(skb, ETH_HLEN + 16, &target[3], 4, 0);
	}
	carry_ports(skb, way, at, sum, mangled, two);
	return 0;
}

/* As carry_v4. */
static __always_inline int carry_v6(struct __sk_buff *skb, struct way *way)
{
	const int at = ETH_HLEN + sizeof(struct ipv6hdr);
	int udp = way->after.protocol == IPPROTO_UDP, sum = at + (udp ? 6 : 16), mangled = udp ? BPF_F_MARK_MANGLED_0 : 0;
	struct ipv6hdr ip;
	__be16 two[2];
	__s64 other;
	__u8 hops;

	if (load(skb, ETH_HLEN, &ip, sizeof(ip)) || load(skb, at, two, sizeof(two)) ||
	    ip.hop_limit < 2)
		return -1;
	hops = ip.hop_limit - 1;
	bpf_skb_store_bytes(skb, ETH_HLEN + 7, &hops, 1, BPF_F_RECOMPUTE_CSUM);
	/* Source and target lie side by side in both. */
	if (differ(&ip.saddr, way->after.source) || differ(&ip.daddr, way->after.target)) {
		other = bpf_csum_diff((__be32 *)&ip.saddr, 32, (__be32 *)way->after.source, 32, 0);
		bpf_l4_csum_replace(skb, sum, 0, other, BPF_F_PSEUDO_HDR | mangled);
		bpf_skb_store_bytes(skb, ETH_HLEN + 8, way->after.source, 32, BPF_F_RECOMPUTE_CSUM);
	}
	carry_ports(skb, way, at, sum, mangled, two);
	return 0;
}

/*
 * Sends a packet on as the kernel did with one of the same flow a moment ago; -1: the kernel is to see this one, as it
 * sees one of each flow in TRUSTED: its own clocks and counters go on. `learns`: what it does then is worth knowing.
 */
static __always_inline int carry(struct __sk_buff *skb, struct self *self, __u32 which, __u32 shard, __u8 turns,
				 __u64 now, __u32 *learns)
{
	__u32 size = 0, left;
	struct flow flow;
	struct ends ends;
	struct leg *leg;
	struct way *found, way;

	if (parse(skb, &flow))
		return -1;
	ends = ends_of(skb, &flow, turns ? which | TURNED : which);
	if (!is_carried(&flow)) {
		if (flow.protocol == IPPROTO_TCP)
			bpf_map_delete_elem(&ways, &ends);
		return -1;
	}
	*learns = LEARN;
	found = bpf_map_lookup_elem(&ways, &ends);
	if (!found)
		return -1;
	way = *found;
	/* It may have become another flow's while it was read. */
	if (bpf_map_lookup_elem(&ways, &ends) != found || found->until != way.until || way.until < now)
		return -1;
	left = way.after.leg;
	leg = bpf_map_lookup_elem(&legs, &left);
	if (!leg || bpf_check_mtu(skb, leg->device, &size, 0, BPF_MTU_CHK_SEGS))
		return -1;
	if (skb->protocol == bpf_htons(ETH_P_IP) ? carry_v4(skb, &way) : carry_v6(skb, &way))
		return -1;
	count(CARRIED);
	passed(skb, RECEIVED, RECEIVED_BYTES);
	passed(skb, SENT, SENT_BYTES);
	return send(skb, self, leg->dispatcher,
		    (struct label){ .local = turns, .kind = OUT, .leg = left, .shard = bpf_htons(shard) });
}

/* What became of the packet that this processor is at, for the next ones. */
static __always_inline void learn(struct __sk_buff *skb, struct current *current, __u32 which)
{
	struct way way = {};
	struct flow flow;

	if (parse(skb, &flow) || !is_carried(&flow) || flow.protocol != current->before.protocol)
		return;
	way.after = ends_of(skb, &flow, which);
	way.until = bpf_ktime_get_coarse_ns() + TRUSTED;
	bpf_map_update_elem(&ways, &current->before, &way, BPF_ANY);
}

/* What comes by the bus arrives at the device of its leg, with leg and shard as its mark, if it is ours. */
SEC("tc") int dataplane(struct __sk_buff *skb)
{
	__u64 began = come(), now = bpf_ktime_get_coarse_ns();
	__u32 zero = 0, which, number, learns = 0;
	struct self *self = bpf_map_lookup_elem(&here, &zero);
	struct shard *shard;
	struct frame frame;
	struct leg *leg;
	__u8 kind, keep, turns;
	int done;

	/* A bus that floods brings what is for others. */
	if (!self || skb->pkt_type != PACKET_HOST || load(skb, 0, &frame, sizeof(frame)))
		return TC_ACT_OK;
	kind = frame.from.kind;
	if (kind == PROBE)
		return ask(skb, self);
	if (kind != DATA && kind != HANDED && kind != RETURNED)
		return drop(DROPPED_MALFORMED);
	which = frame.from.leg;
	number = bpf_ntohs(frame.from.shard);
	leg = bpf_map_lookup_elem(&legs, &which);
	shard = bpf_map_lookup_elem(&shards, &number);
	if (!leg || !shard)
		return drop(DROPPED_MALFORMED);
	if (is_over_quota(now))
		return drop(DROPPED_OVER_QUOTA);
	turns = frame.from.local & TURNS;
	if (kind == DATA && shard->former == NOBODY) {
		done = carry(skb, self, which, number, turns, now, &learns);
		if (done >= 0) {
			pay(began, AT_ONCE);
			return done;
		}
	}
	keep = kind == DATA ? shard->begins : frame.from.local & KEEP;
	if (((kind == DATA && shard->former != NOBODY) || (kind == HANDED && !keep)) && is_elsewhere(skb, keep)) {
		frame.from.kind = kind == DATA ? HANDED : RETURNED;
		frame.from.local = turns | (keep ? KEEP : 0);
		count(kind == DATA ? HANDED_OVER : HANDED_BACK);
		done = hand(skb, self, kind == DATA ? shard->former : frame.from.from, frame.from);
	} else {
		passed(skb, RECEIVED, RECEIVED_BYTES);
		skb->mark = (turns ? TURNING : 0) | learns | which << 16 | number;
		done = bpf_redirect(leg->device, BPF_F_INGRESS);
	}
	pay(began, QUEUED);
	return done;
}

/* What arrives at the device of a leg: the kernel is at it until it leaves, or has it for nothing. */
SEC("tc") int enter(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct current *current = bpf_map_lookup_elem(&now_at, &zero);
	struct flow flow;

	if (!current)
		return TC_ACT_OK;
	current->began = bpf_ktime_get_ns();
	current->learns = (skb->mark & LEARN) && !parse(skb, &flow);
	if (current->learns)
		current->before = ends_of(skb, &flow, (skb->mark >> 16 & 0xff) | (skb->mark & TURNING ? TURNED : 0));
	return TC_ACT_OK;
}

/* What leaves by the device of a leg goes to the dispatcher of that leg. */
SEC("tc") int leave(struct __sk_buff *skb)
{
	__u32 zero = 0, device = skb->ifindex;
	__u64 now = bpf_ktime_get_ns();
	struct current *current = bpf_map_lookup_elem(&now_at, &zero);
	struct self *self = bpf_map_lookup_elem(&here, &zero);
	__u32 *which = bpf_map_lookup_elem(&devices, &device);
	struct leg *leg = which ? bpf_map_lookup_elem(&legs, which) : 0;
	int done;

	if (!self || !leg)
		return TC_ACT_OK;
	/* What a process of the unit's own sends, or its kernel says, did not come in by a leg. */
	if (!skb->ingress_ifindex)
		current = 0;
	if (current && current->learns && skb->mark & SAME)
		learn(skb, current, *which);
	passed(skb, SENT, SENT_BYTES);
	done = send_by(skb, self, self->bus, leg->dispatcher,
		       (struct label){ .local = skb->mark & TURNING ? TURNS : 0,
				       .kind = OUT,
				       .leg = *which,
				       .shard = bpf_htons(skb->mark & 0xffff) });
	pay_for(current && current->began ? current->began : now, QUEUED, 0);
	if (current)
		current->began = current->learns = 0;
	return done;
}

/* The kernel lends the functions above to programs that say this. */
char LICENSE[] SEC("license") = "GPL";
/* Of which source this is the object: a test compares. */
const char compiled_from[] SEC(".rodata.source") = SOURCE;
