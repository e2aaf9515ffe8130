"""What SSUL costs here, against the plain formulation and against the least that its trunk costs."""
NAMES = ('step', 'growth', 'task', 'base', 'index', 'evaluate', 'shell', 'methods', 'reuse')
"""What can be measured. To know it no PyTorch is needed; ``suite`` measures."""
