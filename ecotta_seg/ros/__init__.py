"""ROS 2: bags without ROS, and a live node where rclpy is there. Nothing is imported here."""
