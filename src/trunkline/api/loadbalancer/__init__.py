"""The Load Balancer API v2, as Octavia has it: what tenants order, on appliances."""
