"""ROS 2: reads and writes bags without ROS; the live node needs rclpy. Imports nothing."""
