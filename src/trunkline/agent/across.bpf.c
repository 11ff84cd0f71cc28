// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * On a host's ends of units' interfaces on an in-band bus: what is for another unit of the host arrives there at once,
 * in no queue and past the bridge. All else is the bridge's. across.py attaches it, where it arrives.
 */
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

/* The number of the interface of the unit n is FIRST + n: whether it is there, is whether the unit is here. */
#define FIRST 0x40000000

SEC("tc") int across(struct __sk_buff *skb)
{
	const __u8 *to = (const __u8 *)(long)skb->data;
	__u32 device, size = 0;

	if (to + 6 > (const __u8 *)(long)skb->data_end || to[0] & 1)
		return TC_ACT_OK;
	/* A unit's number is the last byte of its address. */
	device = FIRST + to[5];
	if (bpf_check_mtu(skb, device, &size, 0, 0))
		return TC_ACT_OK;
	/* Whoever it came from, it was for somebody else here; not every kernel (6.15) looks again. */
	bpf_skb_change_type(skb, PACKET_HOST);
	return bpf_redirect_peer(device, 0);
}

char LICENSE[] SEC("license") = "GPL";
/* Of which source this is the object: a test compares. */
const char compiled_from[] SEC(".rodata.source") = SOURCE;
