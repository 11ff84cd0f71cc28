# The files of the metadata as lines that a shell can read: a word, then what it is of. One run of jq for
# all of them, because its start takes 0.3 s under emulation.
#
#   name HOST    instance ID    key OPENSSH-LINE    dns ADDRESS
#   address MAC|- MTU|- ADDRESS/LENGTH [DESTINATION/LENGTH|default=GATEWAY]...    (networks without DHCP)

def object: (try fromjson catch null) | objects;
def line: tostring | gsub("[\\r\\n]+$"; "") | gsub("[\\r\\n]"; " ");

def bits:
    {"255": 8, "254": 7, "252": 6, "248": 5, "240": 4, "224": 3, "192": 2, "128": 1,
     "f": 4, "e": 3, "c": 2, "8": 1}[.] // 0;
def prefix:
    tostring | ascii_downcase
    | if test("^[0-9]+$") then .
      elif test(":") then [scan("[0-9a-f]") | bits] | add // 0
      else split(".") | map(bits) | add end;
def within($mask): if test("/") or $mask == null then . else "\(.)/\($mask | prefix)" end;
def destination: .netmask as $mask | .network | within($mask);

($meta | object // empty)
| "name \(.hostname // .name // "" | line)",
  "instance \(.uuid // .["instance-id"] // "" | line)",
  ((.public_keys // {} | .[]?), (.keys[]? | select(.type == "ssh") | .data)
   | strings | "key \(line)"),
  ($vendor | object | .trunkline.authorized_keys[]? | strings | "key \(line)"),
  ($network | object
   | (.links // []) as $links
   | (.networks[]? | select((.type == "ipv4" or .type == "ipv6") and .ip_address)
      | . as $subnet | $links[] | select(.id == $subnet.link) | . as $link | $subnet
      | ["address", $link.ethernet_mac_address // "-" , $link.mtu // "-" , (.ip_address | within($subnet.netmask)),
         (.routes[]? | "\(destination)=\(.gateway)"),
         (.gateway // empty | "default=\(.)")]
      | join(" ")),
     (.services[]? | select(.type == "dns") | "dns \(.address | line)"))
